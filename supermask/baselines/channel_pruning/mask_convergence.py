"""When the masks of a training have converged: the distances between successive ones stay small."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

LENGTH = 5
"""Distances that the queue holds (You et al. 2020, algorithm 1)."""


class MaskConvergence:
    """A first-in-first-out queue of the last distances between successive masks.

    Args:
        epsilon: the masks have converged when all distances in a full queue are smaller.

    Attributes:
        distances: all distances so far.

    """

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self.distances: list[float] = []
        self._last: Tensor | None = None

    @property
    def converged(self) -> bool:
        """Whether the largest of the last five distances is smaller than epsilon."""
        queue = self.distances[-LENGTH:]
        return len(queue) == LENGTH and max(queue) < self.epsilon

    def add(self, mask: Tensor) -> None:
        """Record a mask, bool (channels,)."""
        if self._last is not None:
            self.distances.append(distance(self._last, mask))
        self._last = mask.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes."""
        return {"distances": list(self.distances), "last": None if self._last is None else self._last.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.distances, self._last = list(state["distances"]), state["last"]


def distance(one: Tensor, other: Tensor) -> float:
    """Return the Hamming distance of two masks over their size: the fraction of entries that differ."""
    return int(torch.sum(one != other)) / one.numel()
