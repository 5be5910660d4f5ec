"""Scores as a search moves them, made up cheaply: momentum, a rate that jumps, and steps at which all are equal."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from supermask.random.stream import philox

Phase = Literal["first", "steady", "jump", "equal"]
SETTLING = 10
"""Steps that count as a jump, from the one at which the rate changes or the scores are drawn anew."""

_MOMENTUM = 0.9
_SHIFTS = 4096
"""Noise is drawn once and read from a random place: each score sees one of so many numbers."""


@dataclass(frozen=True)
class WalkPlan:
    """What happens at which step.

    Attributes:
        rate: the learning rate. A steady step then moves a score by about 0.005 of the threshold, and the threshold by
            about 0.001 of itself.
        fast: the steps [begin, end) at ten times that rate.
        equal: the steps [begin, end) at which all scores are equal; after them they are drawn anew.

    """

    rate: float = 1e-3
    fast: tuple[int, int] = (250, 500)
    equal: tuple[int, int] = (700, 705)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.rate * (10 if self.fast[0] <= step < self.fast[1] else 1)

    def phase(self, step: int) -> Phase:
        """Return what kind of step it is."""
        if step == 0:
            return "first"
        if self.equal[0] <= step < self.equal[1]:
            return "equal"
        jumped = any(0 <= step - change < SETTLING for change in (*self.fast, self.equal[1]))
        return "jump" if jumped else "steady"


class Walk:
    """The scores, half of whose magnitudes lie below 0.67 at first.

    Args:
        size: how many.
        plan: what happens when.
        seed: of the noise.
        device: where they are.

    """

    def __init__(self, size: int, plan: WalkPlan, seed: int, device: torch.device) -> None:
        self._plan, self._size = plan, size
        self._random = np.random.Generator(philox(seed, "score_walk"))
        noise = self._random.standard_normal((2, size + _SHIFTS), dtype=np.float32)
        self._noise = torch.from_numpy(noise).to(device)
        self._velocity = torch.zeros(size, device=device)
        self.scores = self._drawn(0).clone()

    def advance(self, step: int) -> None:
        """Make the scores those of a step; steps come in order, from 0."""
        begin, end = self._plan.equal
        if step == begin:
            self.scores.fill_(0.5)
        elif step == end:
            self.scores.copy_(self._drawn(0))
            self._velocity.zero_()
        elif step and not begin < step < end:
            self._train(self._plan.rate_at(step))

    def _train(self, rate: float) -> None:
        """Take a step of SGD with momentum; all scores also grow or shrink together, which moves the threshold."""
        self._velocity.mul_(_MOMENTUM).add_(self._drawn(0)).add_(self._drawn(1))
        self.scores.mul_(1 + rate * self._random.standard_normal()).sub_(self._velocity, alpha=rate)

    def _drawn(self, row: int) -> Tensor:
        place = int(self._random.integers(_SHIFTS))
        return self._noise[row, place : place + self._size]
