"""Scores become masks: selection, budgets, schedules and the parametrization that puts them on a module."""

from supermask.masking.budget import ERK, Global, PerLayer
from supermask.masking.parametrization import hold
from supermask.masking.schedule import Constant, CubicRamp
from supermask.masking.selection import keep_largest

__all__ = ["ERK", "Constant", "CubicRamp", "Global", "PerLayer", "hold", "keep_largest"]
