"""Schedules: the density over the steps of a search."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from supermask.errors import SupermaskError
from supermask.masking.budget import checked_density


class Schedule(ABC):
    """The density at each step, ending at the density that was asked for."""

    @abstractmethod
    def density(self, step: int, final: float) -> float:
        """Return the density after `step` optimizer steps; 0 is before the first."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The final density from the first step on."""

    def density(self, step: int, final: float) -> float:
        """Return the final density."""
        return final


@dataclass(frozen=True)
class CubicRamp(Schedule):
    """From an initial density to the final one, fast at first: final + (initial - final) (1 - step / steps)^3.

    Zhu & Gupta 2018, eq. 1. Diffenderfer & Kailkhura 2021 ramp an edge-popup mask from 0.5 in this way.

    Attributes:
        steps: optimizer steps until the final density is reached.
        initial: density before the first step.

    """

    steps: int
    initial: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SupermaskError(f"CubicRamp(steps={self.steps}) is too short; give at least one step.")
        checked_density(self.initial, "CubicRamp.initial")

    def density(self, step: int, final: float) -> float:
        """Return the density after `step` steps."""
        left = 1.0 - min(step, self.steps) / self.steps
        return final + (self.initial - final) * left**3
