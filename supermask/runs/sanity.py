"""Sanity checks of a method: what its tickets lose without their places, weights or order, or without true data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from torch import Tensor

from supermask.baselines.at_initialisation import AtInitialisation
from supermask.baselines.method import Method, RunContext
from supermask.baselines.sparse import Sparse
from supermask.data import DataSet
from supermask.data.corruptions import half, random_labels, shuffled_pixels
from supermask.errors import SupermaskError
from supermask.judge.controls import CONTROLS, named_control
from supermask.search.algorithm import Algorithm
from supermask.ticket import Ticket
from supermask.training import Outcome

ITSELF = "ticket"
CORRUPTED: Mapping[str, Callable[[DataSet, int], DataSet]] = MappingProxyType(
    {
        "random_labels": lambda data, seed: random_labels(data, seed=seed),
        "shuffled_pixels": lambda data, seed: shuffled_pixels(data, seed=seed),
        "half_of_the_examples": lambda data, seed: half(data, 0, seed=seed),
    }
)
"""What becomes of the data while the mask is found (Su et al. 2020, section 3): a method that loses nothing without
them takes nothing from them."""
CHECKS = (ITSELF, "shuffled_in_layers", "reinitialised", "inverted", *CORRUPTED)
"""The checks of Frankle et al. 2021, section 5, and of Su et al. 2020."""

Work = Callable[[DataSet], RunContext]
"""Returns what a method works with on some data; contexts of other data must not share stages."""


@dataclass(frozen=True)
class Found:
    """What a method found.

    Attributes:
        ticket: its network before any training.
        scores: that chose the masks, by parameter name; None where there are none.

    """

    ticket: Ticket
    scores: Mapping[str, Tensor] | None


def sanity_checks(
    method: Algorithm, work: Work, data: DataSet, *, seed: int, checks: Sequence[str] = CHECKS
) -> dict[str, Outcome]:
    """Train a method's ticket, and the ticket after each check, from the initial weights, on the true data.

    Args:
        method: that finds weak tickets.
        work: returns what the method works with on the data, or on corrupted ones.
        data: the true data.
        seed: of what the checks draw.
        checks: names among `CHECKS` and the controls.

    Returns:
        The outcome of each training, by the name of the check.

    Raises:
        SupermaskError: a check is unknown, needs scores that the method does not have, or changed nothing; or the
            method finds no weak ticket.

    """
    known = dict.fromkeys([*CHECKS, *CONTROLS])
    if unknown := [name for name in checks if name not in known]:
        raise SupermaskError(f"Unknown check {unknown[0]!r}; known are {', '.join(known)}.")
    true = work(data)
    found = find(method, true)
    tickets = {name: _checked(name, method, work, data, found, seed) for name in checks}
    return {name: true.train(true.sparse(ticket=ticket), stage=f"check-{name}") for name, ticket in tickets.items()}


def find(method: Algorithm, context: RunContext) -> Found:
    """Return the ticket that a method finds; what prunes before training is not trained for it.

    Raises:
        SupermaskError: it finds no weak ticket.

    """
    if isinstance(method, AtInitialisation) and not (method.prune_step or method.state_step):
        masks, scores = method.choose(context.sparse(), context.sample, context.density)
        return Found(context.sparse(masks).ticket(algorithm=method.name), scores)
    # no folder: the last training of a method is not one of a stage, and this is not the end of the run
    result = method.run(replace(context, folder=None)) if isinstance(method, Method) else None
    if result is None or not isinstance(result.subject, Sparse):
        raise SupermaskError(f"{method.name} leaves no network whose kept weights are trained, which the checks train.")
    return Found(result.subject.ticket(algorithm=method.name), result.scores)


def _checked(name: str, method: Algorithm, work: Work, data: DataSet, found: Found, seed: int) -> Ticket:
    if name == ITSELF:
        return found.ticket
    if name in CORRUPTED:
        return find(method, work(CORRUPTED[name](data, seed))).ticket
    return named_control(name)(found.ticket, seed=seed, scores=found.scores)
