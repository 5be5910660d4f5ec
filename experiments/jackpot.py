"""Whether tickets win at the learning rate that suits each network best (Ma et al. 2021)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import FASHION, LENET, Small, Study
from supermask import models
from supermask.baselines.dense import Dense
from supermask.baselines.method import RunContext
from supermask.baselines.rounds import IMP
from supermask.baselines.sparse import Sparse
from supermask.judge.jackpot import Jackpot, Role, Sweep, jackpot
from supermask.judge.small_dense import width_of
from supermask.report import mean
from supermask.report.plot import colored, frame_accuracies, new_figures, plain_log, save_figure
from supermask.results import Result
from supermask.ticket import Ticket
from supermask.training import Outcome

SEEDS = (0, 1, 2)
RATES = (0.005, 0.01, 0.03, 0.1, 0.3)
LENET_RATES = (0.005, 0.01, 0.03, 0.05, 0.1)
"""At 0.3 its training diverges."""
ROUNDS = (4, 8, 11)
"""Rounds of 20 %: sparsities of 59, 83 and 91 %, three of the paper's."""
PARTS = ("validation", "test")


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Accuracies of the last step, as fractions."""

    validation: float
    test: float


@dataclass(frozen=True, kw_only=True)
class RateResult(Result):
    """All networks of one seed, trained at one learning rate.

    Attributes:
        dense: the whole network.
        doubled: the whole network after twice the steps.
        ticket: rounds of pruning to the ticket after so many, reset and trained.
        reinitialised: the same masks over other weights.
        small_dense: narrow networks with as many parameters as the tickets.

    """

    dense: Accuracies
    doubled: Accuracies
    ticket: Mapping[int, Accuracies]
    reinitialised: Mapping[int, Accuracies]
    small_dense: Mapping[int, Accuracies]


@dataclass(frozen=True)
class AtRate(Study[RateResult]):
    """Iterative magnitude pruning at one learning rate, and what its tickets are compared with."""

    kind: ClassVar[type[Result]] = RateResult

    def own(self) -> dict[str, Any]:
        """Return the rounds."""
        return {"rounds": [*ROUNDS]}

    def measure(self, context: RunContext) -> RateResult:
        """Train all networks."""
        dense = context.train(context.sparse(), stage="round-00", keep=(0,))
        longer = replace(context.recipe, iterations=2 * context.steps, evaluate_every=2 * context.steps)
        doubled = context.train(context.sparse(), stage="doubled", recipe=longer)
        tickets = {rounds: self._ticket(context, rounds) for rounds in ROUNDS}
        return RateResult(
            dense=_accuracies(dense),
            doubled=_accuracies(doubled),
            ticket={rounds: accuracies for rounds, (_, accuracies) in tickets.items()},
            reinitialised={
                rounds: _accuracies(
                    context.train(context.sparse(ticket=context.drawn_again(ticket)), stage=f"reinitialised-{rounds}")
                )
                for rounds, (ticket, _) in tickets.items()
            },
            small_dense={rounds: self._small(context, ticket, rounds) for rounds, (ticket, _) in tickets.items()},
        )

    def _ticket(self, context: RunContext, rounds: int) -> tuple[Ticket, Accuracies]:
        found = IMP(ranking="global").run(replace(context, density=0.8**rounds))
        assert isinstance(found.subject, Sparse)
        return found.subject.ticket(), _accuracies(found.outcome)

    def _small(self, context: RunContext, ticket: Ticket, rounds: int) -> Accuracies:
        job, shape = self.setting.job, context.data.input_shape
        described = {"name": job.model, "input_shape": shape, "classes": context.data.classes, "width": job.width}
        count = Sparse(context.build(), ticket).count
        width, _ = width_of(described, count)
        model = models.build(job.model, input_shape=shape, classes=context.data.classes, width=width)
        network = Dense(model, seed=context.seed, weights=context.weights)
        return _accuracies(context.train(network, stage=f"small-{rounds}"))


def _accuracies(outcome: Outcome) -> Accuracies:
    return Accuracies(validation=outcome.validation.accuracy, test=outcome.test.accuracy)


def _row(results: Sequence[RateResult]) -> list[str]:
    def shown(found: Sequence[Accuracies]) -> str:
        return f"{100 * mean([each.test for each in found]).value:.1f}"

    dense = [mean([each.test for each in found]).percent() for found in _dense(results)]
    return [
        *dense,
        *(
            " / ".join(
                shown([getattr(result, role)[rounds] for result in results])
                for role in ("ticket", "reinitialised", "small_dense")
            )
            for rounds in ROUNDS
        ),
    ]


def _dense(results: Sequence[RateResult]) -> tuple[list[Accuracies], list[Accuracies]]:
    return [result.dense for result in results], [result.doubled for result in results]


Found = Mapping[str, Sequence[RateResult]]


def verdicts(found: Found) -> dict[str, list[Jackpot]]:
    """Return the verdicts at each sparsity by network; its rates are the rows that are there."""
    networks = dict.fromkeys(label.rsplit(", rate", 1)[0] for label in found)
    return {network: [_verdict(found, network, rounds) for rounds in ROUNDS] for network in networks}


def _verdict(found: Found, network: str, rounds: int) -> Jackpot:
    rows = {
        float(label.rsplit(" ", 1)[1]): results for label, results in found.items() if label.startswith(f"{network},")
    }

    def sweep(role: str) -> Sweep:
        parts = {
            part: {rate: [getattr(_of(result, role, rounds), part) for result in rows[rate]] for rate in rows}
            for part in PARTS
        }
        return Sweep(parts["validation"], parts["test"])

    roles: tuple[Role, ...] = ("ticket", "reinitialised", "dense", "small_dense")
    sweeps = {role: sweep(role) for role in roles}
    return jackpot(sweeps, sparsity=1 - 0.8**rounds, doubled={"dense": sweep("doubled")})


def _of(result: RateResult, role: str, rounds: int) -> Accuracies:
    found = getattr(result, role)
    accuracies: Accuracies = found[rounds] if isinstance(found, Mapping) else found
    return accuracies


def _conclusion(found: Found) -> str:
    lines = []
    for network, judged in verdicts(found).items():
        for each in judged:
            lines.append(f"- **{network}**, {each.text()}")
            lines += [f"  - {condition.line()}" for condition in each.conditions]
    return "\n".join(lines)


def _plot(found: Found, path: Path) -> None:
    networks = [*dict.fromkeys(label.rsplit(", rate", 1)[0] for label in found)]
    figure, panels = new_figures(len(networks), 6.0 * len(networks))
    for panel, network in zip(panels, networks, strict=True):
        rows = {
            float(label.rsplit(" ", 1)[1]): rows for label, rows in found.items() if label.startswith(f"{network},")
        }
        curves = {"dense": ("dense", 0)} | {
            f"{role.replace('_', ' ')}, {1 - 0.8**rounds:.0%} pruned": (role, rounds)
            for rounds in ROUNDS[1:2]
            for role in ("ticket", "reinitialised", "small_dense")
        }
        for color, (label, (role, rounds)) in colored(curves.items()):
            values = [mean([_of(result, role, rounds).test for result in results]) for results in rows.values()]
            panel.errorbar(
                [*rows],
                [100 * value.value for value in values],
                yerr=[100 * (value.half_width or 0.0) for value in values],
                color=color,
                marker=".",
                capsize=2,
                label=label,
            )
        panel.set(xlabel="learning rate", ylabel="test accuracy (%)", title=network)
        plain_log(panel)
        frame_accuracies(panel)
        panel.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def _groups(network: str, setting: Small, rates: Sequence[float], published: str) -> list[Group]:
    source = Published(published, "Ma et al. 2021, tables 2 and 3")
    return [
        Group(
            f"{network}, rate {rate:g}",
            tuple(AtRate(setting.with_recipe(learning_rate=rate), seed) for seed in SEEDS),
            source if rate == rates[0] else None,
        )
        for rate in rates
    ]


def _plain() -> dict[str, Any]:
    """Return how a LeNet is trained here by SGD: as the small ResNet, without augmentation."""
    return {"optimizer": "sgd", "decay": "step", "iterations": 2000, "evaluate_every": 2000}


EXPERIMENT = Experiment(
    name="jackpot",
    title="Jackpot or secondary prize: tickets at the learning rate that suits each network best",
    source=(
        "Ma et al. 2021, tables 2 and 3 and figures 2 and 3, in a setting that fits a CPU: ResNet-8 of half width on"
        " Fashion-MNIST at 14x14 pixels, 800 steps of batches of 64, and LeNet-300-100 on MNIST, 2,000 steps of batches"
        " of 60 (at a rate of 0.3 its training diverges); both by SGD with momentum 0.9, a tenth of the rate after 50"
        " and 75 % of the steps. Tickets by iterative magnitude pruning, 20 % of all weights in a round, reset to the"
        " initialisation; every round is trained at the rate of the row. The dense network is also trained for twice"
        " the steps. All accuracies are those of the last step; rates are chosen on the validation examples. The"
        " authors choose rates, and epochs, on the test set."
    ),
    groups=(
        *_groups(
            "ResNet-8, Fashion-MNIST", FASHION, RATES, "no jackpot; secondary prize up to 91.4 % (ResNet-20, CIFAR-10)"
        ),
        *_groups("LeNet-300-100, MNIST", LENET.with_recipe(**_plain()), LENET_RATES, "not reported"),
    ),
    table=Table(
        header=("dense", "twice the steps", *(f"{1 - 0.8**rounds:.0%} pruned" for rounds in ROUNDS)),
        row=_row,
        note=(
            "Test accuracies: mean and 95 % interval (Student's t) over n seeds of initialisation and order. Pruned:"
            " means of the ticket / the same masks over other weights / a narrow dense network with as many parameters."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
