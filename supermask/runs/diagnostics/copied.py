"""Copies of one network that see the examples in other orders: the barriers between them, and what ranks alike."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from supermask.baselines.instability import copies, has_statistics, instability
from supermask.baselines.method import RunContext
from supermask.judge import Barrier, Correlation, weight_correlation
from supermask.results import Result, inlined
from supermask.runs.diagnostics.context import Context
from supermask.runs.folder import STAGES, recorded
from supermask.ticket import Ticket
from supermask.training import Outcome, Recipe, State, Subject, train

FRACTIONS = (0.1, 0.2, 0.3, 0.5)
"""The p of R_p: shares of the kept weights of each layer."""


@dataclass(frozen=True)
class Copies:
    """What was found of the copies of one network.

    Attributes:
        barriers: between the copies of each pair, with the statistics of batch norm estimated at every place.
        interpolated: the same with interpolated statistics; empty without batch norm.
        correlations: between the initial weights and those of the first copy, for each of `FRACTIONS` that takes a
            weight; empty where the initial weights have no ranking.

    """

    barriers: tuple[Barrier, ...]
    interpolated: tuple[Barrier, ...]
    correlations: tuple[Correlation, ...]


@dataclass(frozen=True)
class Plan:
    """How a network's copies are trained and compared.

    Attributes:
        copies: how many.
        points: places on the line between two, both ends included.
        steps: optimizer steps of each.

    """

    copies: int
    points: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class _Recorded(Result):
    copies: Copies = field(metadata=inlined())


def copied(context: Context, name: str, ticket: Ticket, plan: Plan, folder: Path) -> Copies:
    """Train the copies of a ticket's network and compare them, or read what was found.

    Args:
        context: the data and the device, and the seed from which on the orders are counted.
        name: of the network.
        ticket: where every copy starts; its masks are held.
        plan: how many copies, steps and places.
        folder: of this network; a training that was stopped goes on in it.

    """
    recipe = context.recipe(plan.steps)
    config: dict[str, Any] = {
        "network": name,
        **context.digests,
        "data": context.data.name,
        "validation": len(context.data.validation),
        "seed": context.seed,
        **asdict(plan),
        "recipe": recipe.recorded(),
        **context.named_loss,
    }

    def measure(folder: Path) -> _Recorded:
        return _Recorded(copies=_measured(_work(context, recipe, folder), ticket, plan, context.seed))

    found = recorded(_Recorded, folder, config, measure, device=str(context.device), resume=True)
    shutil.rmtree(folder / STAGES, ignore_errors=True)  # the copies themselves, which are large
    return found.copies


def _measured(work: RunContext, ticket: Ticket, plan: Plan, seed: int) -> Copies:
    initial = work.sparse(ticket=ticket)
    orders = range(seed, seed + plan.copies)
    networks = copies(work, ticket, State.of(0, initial, None), orders, stage="copy")
    found = instability(work, networks, points=plan.points).barriers
    interpolated: tuple[Barrier, ...] = ()
    if has_statistics(networks[0]):
        interpolated = instability(work, networks, points=plan.points, statistics="interpolated").barriers
    return Copies(found, interpolated, correlations(initial.weights(), networks[0], ticket.masks))


def correlations(
    before: Mapping[str, Tensor], after: nn.Module, masks: Mapping[str, Tensor]
) -> tuple[Correlation, ...]:
    """Return R_p between initial and trained weights, for each p that takes a weight.

    Layers whose kept weights have one magnitude before the training, as signed constants do, have no ranking and are
    left out.

    Args:
        before: the initial weights by name.
        after: the trained network.
        masks: of the weights that are ranked.

    """
    ranked = {name: mask for name, mask in masks.items() if _has_ranking(before[name].cpu()[mask])}
    counts = [int(mask.sum()) for mask in ranked.values()]
    taking = [fraction for fraction in FRACTIONS if any(round(fraction * count) for count in counts)]
    return tuple(weight_correlation(before, after, fraction=fraction, masks=ranked) for fraction in taking)


def _has_ranking(kept: Tensor) -> bool:
    return len(kept) > 1 and bool(kept.abs().min() < kept.abs().max())


def _work(context: Context, recipe: Recipe, folder: Path) -> RunContext:
    # the test examples are at hand: each training and each line would read the files again
    data = replace(context.data, read_test=lambda: context.test)

    def loop(subject: Subject, recipe: Recipe, **more: Any) -> Outcome:
        return train(subject, data, recipe, device=context.device, progress=context.progress, **more)

    return RunContext(
        data=data,
        recipe=recipe,
        seed=context.ticket.seed,
        density=1.0,  # the masks are given
        device=context.device,
        build=context.filed.build,
        loop=loop,
        folder=folder,
        stages=folder / STAGES,
        resume=True,
        loss=context.minimised,
    )
