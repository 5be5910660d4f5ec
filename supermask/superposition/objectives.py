"""What tells the right mask from a wrong one: how sure the network is of its output."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from supermask.errors import SupermaskError


class Objective(ABC):
    """A number per example that is lowest under the mask of the example's task."""

    @abstractmethod
    def __call__(self, logits: Tensor) -> Tensor:
        """Return the objective of each example, (batch,), of its logits, float (batch, outputs)."""


@dataclass(frozen=True)
class Entropy(Objective):
    """H, the entropy of the class probabilities, in nats (Wortsman et al. 2020, section 3.3, below equation 2)."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the entropy of each row."""
        return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


ENTROPY = Entropy()


@dataclass(frozen=True)
class Superfluous(Objective):
    """G, the log of the summed exponentials of all logits, of which only the superfluous ones pass a gradient.

    Superfluous outputs are those past the classes: the cross-entropy pushes them down in training, so that on data of
    its task the right mask has them low. The gradient in them is that of the cross-entropy, whatever the label
    (Wortsman et al. 2020, section 3.6; appendix I, lemma 1).

    Args:
        classes: outputs that stand for classes, the first ones; the network has more outputs than that.

    Raises:
        SupermaskError: classes is less than 1, or when it is called: the network has no output besides them.

    """

    classes: int

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise SupermaskError(f"Superfluous(classes={self.classes}) names no class; give 1 or more.")

    def __call__(self, logits: Tensor) -> Tensor:
        """Return G of each row."""
        if logits.shape[1] <= self.classes:
            raise SupermaskError(
                f"The network has {logits.shape[1]} outputs and {self.classes} classes, so none is superfluous; build"
                " it with more outputs, or infer by the entropy."
            )
        held, free = logits[:, : self.classes].detach(), logits[:, self.classes :]
        return torch.cat([held, free], 1).logsumexp(1)


def refuse_nan(values: Tensor) -> Tensor:
    """Return the values, of which none may be NaN: NaN would be the smallest of all.

    Raises:
        SupermaskError: one is.

    """
    if bool(values.isnan().any()):
        raise SupermaskError("The network gives NaN, so that no task can be inferred; look at the inputs.")
    return values
