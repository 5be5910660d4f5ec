"""Random masks: the weights of a layer are kept by lot, and what a method differs in is how many of each layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from supermask.baselines.at_initialisation.base import AtInitialisation
from supermask.baselines.at_initialisation.examples import ExampleSource
from supermask.baselines.sparse import Sparse
from supermask.masking.budget import ERK, PerLayer, Scope, SmartRatio
from supermask.random.keyed import keyed_permutation


@dataclass(frozen=True)
class _Random(AtInitialisation):
    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return a random order of each layer's weights, float64, by (seed, name) alone."""
        return {name: _order(sample.seed, name, weight) for name, weight in network.weights().items()}


@dataclass(frozen=True)
class RandomUniform(_Random):
    """The same density in each layer."""

    name: ClassVar[str] = "random_uniform"
    scope: ClassVar[Scope] = PerLayer()


@dataclass(frozen=True)
class RandomERK(_Random):
    """The densities of Erdos-Renyi-Kernel (Mocanu et al. 2018; Evci et al. 2020).

    Trained, this is what is called static sparse training: the "static" baseline of Evci et al. 2020.
    """

    name: ClassVar[str] = "random_erk"
    scope: ClassVar[Scope] = ERK()


@dataclass(frozen=True)
class RandomSmartRatio(_Random):
    """The "random tickets" of Su et al. 2020: densities that fall from the first layer on, see `SmartRatio`."""

    name: ClassVar[str] = "random_smart_ratio"
    scope: ClassVar[Scope] = SmartRatio()


def _order(seed: int, name: str, weight: Tensor) -> Tensor:
    order = torch.from_numpy(keyed_permutation(weight.numel(), seed, "random mask", name))
    return order.double().reshape(weight.shape).to(weight.device)  # float64, in which no two places are equal
