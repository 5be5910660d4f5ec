"""Spend all of epsilon: the same random network is pruned again, with larger errors of weights, while it is within."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from supermask.ticket import Ticket
from theory.constructions.effective import Effective
from theory.constructions.prune import Pruned

MOST_ATTEMPTS = 6
"""Times that the network is pruned: each takes as long as the first. Three are enough for most targets."""
LEAST_SPENT = 0.9
"""The share of epsilon that is spent at least, where that many attempts reach it."""
AIM = 0.96
"""The share that is aimed at: what a next attempt spends is off by a few hundredths."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """One pruning of the random network.

    Attributes:
        tolerances: the error that each weight of a layer may have.
        pruned: which paths stay.
        ticket: of the masks.
        effective: what the pairs then compute.

    """

    tolerances: tuple[float, ...]
    pruned: list[Pruned]
    ticket: Ticket
    effective: list[Effective]


def calibrated(
    attempt: Callable[[Sequence[float]], Attempt],
    upper: Callable[[Attempt], float],
    tolerances: Sequence[float],
    epsilon: float,
) -> Attempt:
    """Return the attempt that spends most of epsilon and not more; where none is within, the one nearest to it.

    The difference goes about with the errors of the weights, so a factor on all tolerances is aimed at, and where that
    misses, the middle between what was within and what was not.

    Args:
        attempt: prunes the network for tolerances, one for each layer.
        upper: the proven bound of the difference.
        tolerances: of the plan.
        epsilon: the largest difference wanted.

    """
    factor, within, beyond = 1.0, 0.0, math.inf
    best, spent = attempt(tolerances), math.inf
    for count in range(MOST_ATTEMPTS):
        found = attempt([factor * share for share in tolerances]) if count else best
        reached = upper(found)
        if _is_better(reached, spent, epsilon):
            best, spent = found, reached
        if LEAST_SPENT * epsilon <= reached <= epsilon or not 0.0 < reached < math.inf:
            break
        within, beyond = (factor, beyond) if reached <= epsilon else (within, factor)
        aimed = factor * AIM * epsilon / reached
        factor = aimed if within < aimed < beyond else math.sqrt(within * beyond)
    return best


def _is_better(reached: float, before: float, epsilon: float) -> bool:
    """Whether a bound spends more of epsilon, without being beyond it; or is less far beyond."""
    return before < reached <= epsilon or reached < before > epsilon
