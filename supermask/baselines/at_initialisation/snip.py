"""SNIP (Lee, Ajanthan & Torr 2019): keep the weights that the loss is most sensitive to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from supermask.baselines.at_initialisation.base import AtInitialisation
from supermask.baselines.at_initialisation.examples import ExampleSource
from supermask.baselines.at_initialisation.probe import gradients, leaves, loss
from supermask.baselines.sparse import Sparse


@dataclass(frozen=True)
class SNIP(AtInitialisation):
    """Single-shot network pruning by connection sensitivity (Lee, Ajanthan & Torr 2019, section 4).

    The sensitivity of weight j is |dL(c * w) / dc_j| at c = 1, which is |w_j dL/dw_j|, of one minibatch; the largest of
    the whole network are kept, at once. The paper divides by the sum over all weights, which leaves the order as it is.
    Batch norm takes the statistics of the minibatch, as in the paper's training mode.

    Attributes:
        batch: examples in the minibatch; the paper takes that of its training, 100 on MNIST and 128 on CIFAR-10.

    """

    name: ClassVar[str] = "snip"
    batch: int = 100

    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return the sensitivities."""
        weights = leaves(network)
        slopes = gradients(loss(network, weights, sample.batch(self.batch), sample.objective), weights)
        return {name: (weight * slopes[name]).abs().detach() for name, weight in weights.items()}
