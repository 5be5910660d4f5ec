"""Instability analysis: copies of one network that see other orders of the examples (Frankle et al. 2020, section 3).

A network is stable at step k if copies that are trained from its state at k to the end, and differ in the noise of SGD
alone, end with no error barrier on the line between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from statistics import fmean

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from supermask.baselines.method import RunContext
from supermask.errors import SupermaskError
from supermask.judge.barrier import EXAMPLES, POINTS, Barrier, Part, Statistics, barrier
from supermask.ticket import Ticket
from supermask.training import Recipe, State


@dataclass(frozen=True)
class Instability:
    """The barriers between the copies of one network.

    Attributes:
        barriers: between the copies of each pair.

    """

    barriers: tuple[Barrier, ...]

    @property
    def height(self) -> float:
        """Mean barrier over the pairs, a fraction: on the test set, or on the part that was asked for."""
        return fmean(pair.height for pair in self.barriers)

    @property
    def error(self) -> float:
        """Mean test error of the copies, a fraction."""
        return fmean(error for pair in self.barriers for error in (pair.errors[0], pair.errors[-1]))


def copies(
    context: RunContext,
    ticket: Ticket,
    start: State,
    orders: Sequence[int],
    *,
    stage: str,
    recipe: Recipe | None = None,
) -> list[nn.Module]:
    """Train a ticket's network from one state with several orders, and return the networks after the last step.

    Args:
        context: the network, the data and the recipe.
        ticket: its masks are held.
        start: where to start: weights, statistics and momentum; the masks are applied to it.
        orders: seeds of the order of the examples, the augmentation and dropout, one per copy.
        stage: a name that tells these trainings from all others of this network and seed.
        recipe: another than the context's.

    """
    networks = []
    for order in orders:
        network = context.sparse(ticket=ticket)
        network.load_weights(start.model)
        name = f"{stage}-order-{order}"
        # load_weights and not the state's own subject, whose masks are of another network
        outcome = context.train(network, stage=name, recipe=recipe, start=start.onto(), order=order)
        network.load_state_dict(outcome.last)
        networks.append(network.model)
    return networks


def instability(
    context: RunContext,
    networks: Sequence[nn.Module],
    *,
    points: int = POINTS,
    statistics: Statistics = "estimated",
    examples: int = EXAMPLES,
    part: Part = "test",
) -> Instability:
    """Return the barriers between all pairs of copies.

    Args:
        context: whose data the errors are measured on.
        networks: the copies, two or more.
        points: places on each line.
        statistics: of batch norm, as `barrier` has them; without batch norm both are the same.
        examples: of the training set, that `barrier` takes.
        part: of the data, whose errors are measured; what chooses something takes "validation".

    Raises:
        SupermaskError: there are fewer than two copies, or `barrier` refuses a pair.

    """
    if len(networks) < 2:
        raise SupermaskError(f"There are {len(networks)} copies; barriers are between two, so give at least 2.")
    measure = partial(barrier, statistics=statistics, device=context.device, examples=examples, part=part)
    return Instability(tuple(measure(*pair, context.data, points) for pair in combinations(networks, 2)))


def has_statistics(model: nn.Module) -> bool:
    """Return whether a network normalises with running statistics, which may be estimated or interpolated."""
    return any(isinstance(module, _NormBase) and module.track_running_stats for module in model.modules())
