"""The way of a training on its principal plane, and the loss around its end in directions of its filters' size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.framework.experiment import Experiment, Group, Table
from experiments.framework.small import CIFAR, STEPS, Study
from supermask.baselines.method import RunContext
from supermask.baselines.rounds import IMP
from supermask.baselines.sparse import Sparse
from supermask.data import Examples
from supermask.judge.landscape import Surface, filter_normalised, principal_plane, surface
from supermask.random.keyed import keyed_generator
from supermask.report.plot import new_figures, save_figure
from supermask.results import Result
from supermask.training import Recipe, reestimate
from supermask.training.batches import Prepared

ROUNDS = 8
"""Rounds of 20 %: 83.2 % of the weights are pruned, a sparsity of the paper's."""
STOPS = tuple(range(0, STEPS + 1, 50))
IMAGES, POINTS = 500, 13
Grid = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Losses over a grid: mean cross-entropy on training images, in nats.

    Attributes:
        first: coordinates along the first direction; rows go along it.
        second: along the second.
        losses: at each of them.

    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    losses: Grid

    @classmethod
    def of(cls, found: Surface) -> "Losses":
        """Return a surface as plain values."""
        rounded = (found.losses * 1000).round() / 1000
        losses = tuple(map(tuple, rounded.tolist()))
        return cls(first=tuple(found.first.tolist()), second=tuple(found.second.tolist()), losses=losses)


@dataclass(frozen=True, kw_only=True)
class LandscapeResult(Result):
    """One training and the losses around it.

    Attributes:
        accuracy: of the last step on the test set, a fraction.
        coordinates: of the states of every fiftieth step in their principal plane.
        explained: share of the squared distances from the last state that lies along each direction of the plane.
        plane: losses in that plane.
        filters: losses around the last state, in two random directions with the norm of each filter.

    """

    accuracy: float
    coordinates: tuple[tuple[float, float], ...]
    explained: tuple[float, float]
    plane: Losses
    filters: Losses


@dataclass(frozen=True)
class Landscape(Study[LandscapeResult]):
    """A dense training, or that of a ticket.

    Attributes:
        setting: how it is trained.
        seed: of the initial weights.
        pruned: whether it is the ticket.

    """

    kind: ClassVar[type[Result]] = LandscapeResult

    pruned: bool = False

    def own(self) -> dict[str, Any]:
        """Return what is drawn."""
        return {"pruned": self.pruned, "rounds": ROUNDS, "stops": [*STOPS], "images": IMAGES, "points": POINTS}

    def measure(self, context: RunContext) -> LandscapeResult:
        """Train, and measure the losses around."""
        network = context.sparse(self._masks(context) if self.pruned else None)
        outcome = context.train(network, stage="watched-ticket" if self.pruned else "watched", keep=STOPS)
        names, masks = [name for name, _ in network.model.named_parameters()], network.masks()
        states = [{name: state.model[name] for name in names} for state in outcome.kept.values()]
        network.load_state_dict(outcome.last)
        train = context.data.train
        images = Examples(train.images[:IMAGES], train.labels[:IMAGES])
        batches = [*Prepared(context.data, images, Recipe(channels_last=True), batch=IMAGES)]
        estimated = partial(reestimate, batches=[inputs for inputs, _ in batches])
        around = partial(surface, network.model, batches=batches, points=POINTS, statistics=estimated)
        plane = principal_plane(states)
        random = tuple(_random(states[-1], masks, number) for number in (0, 1))
        return LandscapeResult(
            accuracy=outcome.test.accuracy,
            coordinates=tuple((float(a), float(b)) for a, b in plane.coordinates.tolist()),
            explained=plane.explained,
            plane=Losses.of(around(plane.origin, plane.directions, extents=plane.extents())),
            filters=Losses.of(around(states[-1], (random[0], random[1]))),
        )

    def _masks(self, context: RunContext) -> Mapping[str, Tensor]:
        found = IMP(ranking="global").run(replace(context, density=0.8**ROUNDS)).subject
        assert isinstance(found, Sparse)
        return found.masks()


def _random(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """Return a random direction with the norm of each filter; biases and batch norm stay (Li et al. 2018)."""
    drawn = {
        name: torch.from_numpy(keyed_generator(number, "direction", name).standard_normal(tuple(weight.shape))).float()
        for name, weight in weights.items()
    }
    return filter_normalised(drawn, weights, masks)


def _row(results: Sequence[LandscapeResult]) -> list[str]:
    (result,) = results
    height, middle = max(map(max, result.filters.losses)), result.filters.losses[POINTS // 2][POINTS // 2]
    return [
        f"{result.accuracy:.1%}",
        f"{result.explained[0]:.0%}, {result.explained[1]:.0%}",
        f"{max(abs(a) for a, _ in result.coordinates):.1f}",
        f"{middle:.2f}",
        f"{height:.1f}",
    ]


def _plot(found: Mapping[str, Sequence[LandscapeResult]], path: Path) -> None:
    figure, panels = new_figures(2 * len(found), 4.2 * 2 * len(found))
    for number, (label, (result,)) in enumerate(found.items()):
        left, right = panels[2 * number : 2 * number + 2]
        for panel, losses in ((left, result.plane), (right, result.filters)):
            values = torch.tensor(losses.losses).T
            panel.contour(losses.first, losses.second, values.log(), levels=12, cmap="viridis", linewidths=0.8)
        left.plot(*zip(*result.coordinates, strict=True), ".-", color="#d55e00", markersize=4)
        left.set(title=f"{label}: its way", xlabel=f"first ({result.explained[0]:.0%})", ylabel="second")
        right.set(title=f"{label}: around the end", xlabel="in norms of the filters")
        right.set_xticks([-1.0, -0.5, 0.0, 0.5, 1.0])
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="landscape",
    title="The way of a training on its principal plane, and the loss around its end",
    source=(
        "Ma et al. 2021, figures 4 and 5, and Li et al. 2018, in a setting that fits a CPU: ResNet-8 of half width,"
        " CIFAR-10 at 16x16 pixels, 1,000 steps (see instability.md). Left of each pair: the parameters of every"
        " fiftieth step on the plane through the last ones that is nearest to all of them, and contours of the"
        " logarithm of the loss. Right: the same around the last step in two random directions, in which each filter"
        " has the norm of that filter; pruned weights, biases and batch norm stay. Losses are those of"
        f" {IMAGES} training images, with the statistics of batch norm estimated again at each of {POINTS}x{POINTS}"
        " points."
    ),
    groups=(
        Group("dense, rate 0.1", (Landscape(CIFAR, 0),)),
        Group("ticket of 16.8 %, rate 0.1", (Landscape(CIFAR, 0, pruned=True),)),
        Group("dense, rate 0.01", (Landscape(CIFAR.with_recipe(learning_rate=0.01), 0),)),
        Group("ticket of 16.8 %, rate 0.01", (Landscape(CIFAR.with_recipe(learning_rate=0.01), 0, pruned=True),)),
    ),
    table=Table(
        header=("test accuracy", "explained", "length", "loss", "highest"),
        row=_row,
        note=(
            "Explained: share of the squared distances from the last state along each direction of the plane. Length:"
            " the largest coordinate along the first. Loss: at the end of the training. Highest: in the right panel."
        ),
    ),
    plot=_plot,
)
