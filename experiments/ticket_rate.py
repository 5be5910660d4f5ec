"""Whether a ticket wants the learning rate that found it (Ma et al. 2021, table 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import FASHION, Study
from supermask.baselines.method import RunContext
from supermask.baselines.rounds import IMP, OneShot
from supermask.baselines.sparse import Sparse
from supermask.report import Mean, mean
from supermask.report.plot import colored, frame_accuracies, new_figures, plain_log, save_figure
from supermask.results import Result

SEEDS = (0, 1, 2)
FOUND_AT = (0.01, 0.1)
TRAINED_AT = (0.005, 0.01, 0.05, 0.1)
ROUNDS = 8
"""Rounds of 20 %: 83.2 % of the weights are pruned, as in the paper."""


@dataclass(frozen=True, kw_only=True)
class TicketRateResult(Result):
    """Test accuracies of the tickets of one training, at each rate at which they are trained, as fractions.

    Attributes:
        iterative: tickets by iterative magnitude pruning.
        one_shot: tickets of the same density in one round.

    """

    iterative: Mapping[float, float]
    one_shot: Mapping[float, float]


@dataclass(frozen=True)
class TicketRates(Study[TicketRateResult]):
    """The tickets that trainings at the setting's rate find, trained at other rates."""

    kind: ClassVar[type[Result]] = TicketRateResult

    def own(self) -> dict[str, Any]:
        """Return the rates, and how far it is pruned."""
        return {"trained_at": [*TRAINED_AT], "rounds": ROUNDS}

    def measure(self, context: RunContext) -> TicketRateResult:
        """Find both tickets, and train each at every rate from its initial weights."""
        return TicketRateResult(
            iterative=self._accuracies(context, "iterative", IMP(ranking="global")),
            one_shot=self._accuracies(context, "one-shot", OneShot(ranking="global")),
        )

    def _accuracies(self, context: RunContext, name: str, way: IMP) -> dict[float, float]:
        found = way.run(replace(context.within(name), density=0.8**ROUNDS, folder=None)).subject
        assert isinstance(found, Sparse)
        return {rate: self._accuracy(context, found, name, rate) for rate in TRAINED_AT}

    def _accuracy(self, context: RunContext, ticket: Sparse, name: str, rate: float) -> float:
        recipe = replace(context.recipe, learning_rate=rate)
        network = context.sparse(ticket=ticket.ticket())
        return context.train(network, stage=f"{name}-at-{rate}", recipe=recipe).test.accuracy


Found = Mapping[str, Sequence[TicketRateResult]]


def _row(results: Sequence[TicketRateResult]) -> list[str]:
    cells = []
    for rate in TRAINED_AT:
        iterative, one_shot = (
            mean([getattr(result, way)[rate] for result in results]) for way in ("iterative", "one_shot")
        )
        cells.append(f"{100 * iterative.value:.1f} / {100 * one_shot.value:.1f}")
    return [*cells, *(f"{_gain(results, rate).value * 100:+.1f}" for rate in TRAINED_AT)]


def _gain(results: Sequence[TicketRateResult], rate: float) -> Mean:
    return mean([result.iterative[rate] - result.one_shot[rate] for result in results])


def _plot(found: Found, path: Path) -> None:
    figure, panels = new_figures(len(found), 5.0 * len(found))
    for panel, (label, results) in zip(panels, found.items(), strict=True):
        for color, way in colored(("iterative", "one_shot")):
            values = [mean([getattr(result, way)[rate] for result in results]) for rate in TRAINED_AT]
            panel.errorbar(
                TRAINED_AT,
                [100 * value.value for value in values],
                yerr=[100 * (value.half_width or 0.0) for value in values],
                color=color,
                marker=".",
                capsize=2,
                label=way.replace("_", "-"),
            )
        panel.set(xlabel="rate at which the ticket is trained", title=label)
        plain_log(panel)
        frame_accuracies(panel)
        panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("test accuracy (%)")
    save_figure(figure, path)


_SAID = {
    0.01: "iterative above one-shot at every rate, by 0.7 to 4.4 points",
    0.1: "iterative at most 0.1 above one-shot",
}

EXPERIMENT = Experiment(
    name="ticket_rate",
    title="The learning rate that finds a ticket, and the one that trains it",
    source=(
        "Ma et al. 2021, table 4, in a setting that fits a CPU: ResNet-8 of half width on Fashion-MNIST at 14x14"
        " pixels, 800 steps (see instability.md); 83.2 % of the weights are pruned, over the whole network, in eight"
        " rounds of 20 % or in one. The dense network and all rounds are trained at the rate of the row; the ticket"
        " starts from its initial weights and is trained at the rate of the column."
    ),
    groups=tuple(
        Group(
            f"found at rate {found:g}",
            tuple(TicketRates(FASHION.with_recipe(learning_rate=found), seed) for seed in SEEDS),
            Published(_SAID[found], "Ma et al. 2021, table 4, ResNet-20 on CIFAR-10, 160 epochs"),
        )
        for found in FOUND_AT
    ),
    table=Table(
        header=(*(f"at {rate:g}" for rate in TRAINED_AT), *(f"gain at {rate:g}" for rate in TRAINED_AT)),
        row=_row,
        note=(
            "At: test accuracy of the iterative ticket / the one-shot ticket in percent, trained at this rate, means"
            " over n seeds of initialisation and order. Gain: iterative minus one-shot, in points."
        ),
    ),
    plot=_plot,
)
