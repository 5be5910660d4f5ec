"""How far the weights of a training have moved: the quantities of Frankle, Schwab & Morcos 2020, figure 3."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

SHOWN = 10
"""Weights whose values are recorded one by one, as in the paper's figure."""


@dataclass(frozen=True)
class Movement:
    """How some weights differ from what they were; those that are zero both before and now are left out.

    Attributes:
        magnitude: mean absolute value now.
        signs_changed: fraction whose sign is another one.
        distance: Euclidean distance.
        cosine: of the angle between both; 0 where one of them is zero.

    """

    magnitude: float
    signs_changed: float
    distance: float
    cosine: float


@dataclass(frozen=True)
class Record(Movement):
    """The movement since the start of a training, and the present state of its weights.

    Attributes:
        gradient: Euclidean norm of the gradient of the last batch; None before the first step.
        weights: ten of the weights, which are the same ones at every record.
        final_distance: Euclidean distance to the weights after the last step; None until then.
        final_cosine: of the angle to them.

    """

    gradient: float | None
    weights: tuple[float, ...]
    final_distance: float | None = None
    final_cosine: float | None = None


class Telemetry:
    """What a training records of its weights: the trained parameters of two or more dimensions.

    A record reads each weight and its first value once, so that one at each evaluation costs next to nothing in time.
    In memory, and in checkpoints, it is a copy of the weights, from which their way to the last ones is measured.

    Args:
        parameters: those that are trained, at the start of the training.

    Attributes:
        passed: the weights at the start, and at each record.

    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._weights = [parameter for parameter in parameters if parameter.ndim >= 2]
        self.passed = [self._copies()]

    def record(self) -> dict[str, Any]:
        """Return a `Record` of the present weights as plain values."""
        self.passed.append(self._copies())
        moved = movement(self.passed[0], self._weights)
        return asdict(Record(**vars(moved), gradient=self._gradient(), weights=self._shown()))

    def complete(self, records: Iterable[dict[str, Any]]) -> None:
        """Fill in how far the weights of each record were from the present ones, which are the last.

        Args:
            records: all that were made, in their order.

        """
        for record, weights in zip(records, self.passed[1:], strict=True):
            left = movement(weights, self._weights)
            record.update(final_distance=left.distance, final_cosine=left.cosine)

    def _copies(self) -> list[Tensor]:
        return [weight.detach().cpu().clone() for weight in self._weights]

    def _gradient(self) -> float | None:
        found = [weight.grad.norm() for weight in self._weights if weight.grad is not None]
        return float(torch.stack(found).norm()) if found else None

    def _shown(self) -> tuple[float, ...]:
        """Return ten weights, evenly spaced among those that were not zero at the start."""
        if not self._weights:
            return ()
        first, now = (
            torch.cat([weight.flatten() for weight in weights]) for weights in (self.passed[0], self.passed[-1])
        )
        alive = first.nonzero()[:, 0]
        return tuple(now[alive[:: max(1, len(alive) // SHOWN)][:SHOWN]].tolist())


@torch.no_grad()
def movement(before: Sequence[Tensor], now: Sequence[Tensor]) -> Movement:
    """Return how weights differ from what they were.

    Args:
        before: tensors of any shapes.
        now: the same weights, of the same shapes and in the same order.

    """
    sums = torch.zeros(7, dtype=torch.float64)
    for old, new in zip(before, now, strict=True):
        old, new = old.to(new.device), new.detach()
        # float32 sums of millions of products lose digits that the cosine of a small angle needs
        a, b = old.double(), new.double()
        counted = (old != 0) | (new != 0)
        changed = old.sign() != new.sign()
        counts = (changed & counted).sum(), counted.sum()
        products = b.abs().sum(), (a * b).sum(), (a * a).sum(), (b * b).sum(), (b - a).square().sum()
        sums += torch.stack([part.double() for part in (*counts, *products)]).cpu()
    changes, count, magnitude, product, first, last, apart = sums.tolist()
    norms = (first * last) ** 0.5
    return Movement(
        magnitude=magnitude / max(1.0, count),
        signs_changed=changes / max(1.0, count),
        distance=apart**0.5,
        cosine=product / norms if norms else 0.0,
    )
