"""What the bounds and laws refuse, each with one sentence."""

import math
import operator
from collections.abc import Sequence
from typing import SupportsIndex

from supermask.errors import SupermaskError


def check_positive(value: float, name: str) -> None:
    """Refuse what is not a positive finite number."""
    if not (math.isfinite(value) and value > 0):
        raise SupermaskError(f"{name}={value} must be a positive number.")


def check_at_most(value: float, limit: float, name: str) -> None:
    """Refuse what is not a positive number up to a limit."""
    if not 0 < value <= limit:
        raise SupermaskError(f"{name}={value} must lie above 0 and be at most {limit:g}.")


def check_between_0_and_1(value: float, name: str) -> None:
    """Refuse what is not strictly between 0 and 1: probabilities, and the errors of theorems that want eps < 1."""
    if not 0 < value < 1:
        raise SupermaskError(f"{name}={value} must lie strictly between 0 and 1.")


def checked_count(value: SupportsIndex, name: str, least: int = 1) -> int:
    """Return a whole number of at least `least` as a Python int, which never overflows; refuse anything else."""
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise SupermaskError(f"{name}={value} must be a whole number of at least {least}.")
    return count


def checked_dimensions(dimensions: Sequence[SupportsIndex], name: str = "dimensions") -> tuple[int, ...]:
    """Return the widths d_0, ..., d_l of a target with at least one layer as Python ints; refuse anything else."""
    if len(dimensions) < 2:
        raise SupermaskError(f"{name}={tuple(dimensions)} must hold the target's input and at least one layer.")
    return tuple(checked_count(dimension, f"each of {name}") for dimension in dimensions)
