"""Magnitude pruning before any training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from supermask.baselines.at_initialisation.base import AtInitialisation
from supermask.baselines.at_initialisation.examples import ExampleSource
from supermask.baselines.sparse import Sparse


@dataclass(frozen=True)
class MagnitudeAtInitialisation(AtInitialisation):
    """Keep the weights that are largest by magnitude before any training, over the whole network.

    A baseline of Tanaka et al. 2020 and of Frankle et al. 2021.
    """

    name: ClassVar[str] = "magnitude_init"

    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return the magnitudes."""
        return {name: weight.abs() for name, weight in network.weights().items()}
