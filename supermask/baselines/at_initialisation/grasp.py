"""GraSP (Wang, Zhang & Grosse 2020): keep the weights without which the gradient would shrink."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from supermask.baselines.at_initialisation.base import AtInitialisation
from supermask.baselines.at_initialisation.examples import ExampleSource
from supermask.baselines.at_initialisation.probe import gradients, leaves, loss
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError


@dataclass(frozen=True)
class GraSP(AtInitialisation):
    """Gradient signal preservation (Wang, Zhang & Grosse 2020, section 4 and algorithm 1).

    To first order the squared norm of the gradient g changes by 2 S(-theta) when a weight is removed, with
    S(-theta) = -theta * (H g) and H the Hessian. The paper removes the weights of the HIGHEST S(-theta), those without
    which the gradient grows most or shrinks least. Here the largest scores are kept, so that the score of a weight is
    the negative, theta * (H g).

    g and H are of the loss of one batch as a function of the prunable weights alone, biases and normalisation held
    fixed, as in the authors' code. H g is exact, by differentiating g * constant(g). Batch norm takes the statistics of
    the batch. Their code scores a copy whose linear layers are drawn again (Glorot normal), and adds up two halves of
    the batch; here the network itself is scored, on the whole batch.

    Attributes:
        per_class: examples of each class; 10 on CIFAR-10 in the authors' code, all in one batch here.
        temperature: that the logits are divided by; 200 in the authors' code. A loss that is not the cross entropy of
            the logits has none.

    """

    name: ClassVar[str] = "grasp"
    per_class: int = 10
    temperature: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise SupermaskError(f"temperature={self.temperature} is out of range; it must be above 0.")

    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return theta * (H g): what S(-theta) is for the paper, with the other sign."""
        weights = leaves(network)
        with sdpa_kernel(SDPBackend.MATH):  # the faster kinds of attention cannot be differentiated twice
            batch = sample.per_class(self.per_class)
            cost = loss(network, weights, batch, sample.objective, self.temperature)
            slopes = gradients(cost, weights, again=True)
            squared = torch.stack([(slope * slope.detach()).sum() for slope in slopes.values()]).sum()
            curved = gradients(squared, weights)
        return {name: (weight * curved[name]).detach() for name, weight in weights.items()}
