"""Frankle & Carbin 2019, figures 3 and 4: LeNet-300-100 on MNIST by weights remaining, with the two controls."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.baselines.sparse import Sparse
from supermask.files import make_folder
from supermask.judge.controls import named_control
from supermask.report import Mean, mean
from supermask.report.plot import colored, new_figures, save_figure
from supermask.results import Result
from supermask.runs import Job, build_network, load_data, recorded, run
from supermask.runs.protocols import PROTOCOLS
from supermask.ticket import Ticket
from supermask.training import train
from supermask.training.result import Scored, TrainingResult, measured

PROTOCOL = PROTOCOLS["lenet_300_100"]
SHAPES = {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "fc3.weight": (10, 100)}
ITERATIONS = 10_000
SEEDS = (0, 1, 2)
ROUNDS = tuple(range(17))
CONTROLLED = (1, 3, 7, 11, 15)
"""Rounds whose tickets are also trained from other weights, and with other masks."""

CONTROLS = {"reinitialised": "reinitialised", "shuffled_in_layers": "random mask"}
SERIES = {"ticket": "ticket", **CONTROLS}


@dataclass(frozen=True)
class EarlyStop:
    """The step of least validation loss, and the accuracies of its network, fractions.

    Attributes:
        accuracy: on the test set.
        stopped: the step.
        train: on training examples; None of older results.
        last: on the test set, after the last step; None of older results.

    """

    accuracy: float
    stopped: int
    train: float | None = None
    last: float | None = None

    @classmethod
    def of(cls, result: "TrainingResult | TrainedControl") -> "EarlyStop":
        """Return the early stop of a training."""
        train, last = (None if score is None else score.accuracy for score in (result.train, result.last_test))
        return cls(result.test.accuracy, result.best_step, train, last)


@dataclass(frozen=True, kw_only=True)
class RungResult(Result):
    """The early stop of a ticket and of its controls, as far as they were trained; and the weights that it keeps."""

    ticket: EarlyStop
    reinitialised: EarlyStop | None = None
    shuffled_in_layers: EarlyStop | None = None
    kept: int

    @property
    def cost(self) -> int:
        """What finding and training the ticket costs, in trainings of the dense network: all rounds are as long."""
        return int(self.config["rounds"]) + 1


@dataclass(frozen=True, kw_only=True)
class TrainedControl(Result):
    """What the training of a control came to."""

    test: Scored
    best_step: int
    train: Scored | None = None
    last_test: Scored | None = None


@dataclass(frozen=True)
class Rung:
    """The ticket after so many rounds, trained from its own weights, from others, and with its masks shuffled.

    Attributes:
        seed: of the ladder.
        rounds: of pruning.
        iterations: of each training.
        controls: that are trained too.

    """

    kind: ClassVar[type[Result]] = RungResult

    seed: int
    rounds: int
    iterations: int = ITERATIONS
    controls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    @property
    def job(self) -> Job:
        """The iterative pruning down to this rung."""
        job = PROTOCOL.job
        density = PROTOCOL.ladder.density(SHAPES, self.rounds)
        return replace(
            job,
            seed=self.seed,
            recipe=replace(job.recipe, iterations=self.iterations),
            search=replace(job.search, density=density),
        )

    def config(self) -> dict[str, Any]:
        """Return all that the rung depends on."""
        return {**asdict(self), "controls": list(self.controls), "job": self.job.config()}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> RungResult:
        """Train what is not trained yet; rungs of one seed share their ladder."""
        ladder = path.parent / f"lenet-300-100-seed{self.seed}"
        folder = make_folder(ladder / f"round-{self.rounds:02d}")
        options: dict[str, Any] = {"device": device, "data_folder": data_folder}
        ticket = run(self.job, folder, stages=ladder / "stages", resume=True, progress=False, **options)
        made = Ticket.load(folder / "network.ticket")
        controls: dict[str, Any] = {
            control: EarlyStop.of(self._train(control, made, ladder / f"{control}-{self.rounds:02d}", **options))
            for control in self.controls
        }
        result = RungResult(ticket=EarlyStop.of(ticket), kept=ticket.kept, **controls)
        return recorded(RungResult, path, self.config(), lambda _: result, device=device, resume=True)

    def _train(self, name: str, ticket: Ticket, path: Path, *, device: str, data_folder: Path | None) -> TrainedControl:
        """Train a control of the ticket as the ticket was trained: the same batches in the same order."""
        data = load_data(self.job, data_folder)
        made = named_control(name)(ticket, seed=self.seed)

        def measure(folder: Path) -> TrainedControl:
            subject = Sparse(build_network(self.job, data), made)
            more: dict[str, Any] = {"folder": folder, "resume": True, "progress": False, "extended": True}
            outcome = train(subject, data, self.job.training, seed=self.seed, device=device, **more)
            found = measured(outcome)
            return TrainedControl(**{name: found[name] for name in ("test", "best_step", "train", "last_test")})

        return recorded(TrainedControl, path, {**self.config(), "control": name}, measure, device=device, resume=True)


def _stops(results: Sequence[RungResult], series: str) -> list[EarlyStop]:
    """Return the early stops of the ticket or of a control, where there are any."""
    stops = [getattr(result, series) for result in results]
    return [stop for stop in stops if stop is not None]


def _mean(stops: Sequence[EarlyStop], fact: str) -> Mean:
    return mean([getattr(stop, fact) for stop in stops])


def _row(results: Sequence[RungResult]) -> list[str]:
    cells = [f"{results[0].kept:,}"]
    for series in SERIES:
        stops = _stops(results, series)
        cells += [_mean(stops, "accuracy").percent(), f"{_mean(stops, 'stopped').value:,.0f}"] if stops else ["-", "-"]
    return [*cells, *_against(results, "reinitialised"), f"{results[0].cost}"]


def _against(results: Sequence[RungResult], control: str) -> list[str]:
    """Return how much later a control stops, and how much better the ticket is: paired by seed."""
    stops = [(result.ticket, getattr(result, control)) for result in results]
    pairs = [(ticket, other) for ticket, other in stops if other is not None]
    if not pairs:
        return ["-", "-"]
    later = mean([other.stopped / ticket.stopped for ticket, other in pairs])
    better = mean([100 * (ticket.accuracy - other.accuracy) for ticket, other in pairs])
    return [_text(later), _text(better)]


def _text(value: Mean) -> str:
    return f"{value.value:.2f}" + (f" ± {value.half_width:.2f}" if value.half_width is not None else "")


def _plot(found: Mapping[str, Sequence[RungResult]], path: Path) -> None:
    figure, (left, right) = new_figures(2, width=10.0)
    for color, (series, label) in colored(SERIES.items()):
        for axes, fact, scale in ((left, "accuracy", 100.0), (right, "stopped", 1.0)):
            points = {
                100 * results[0].kept / 266_200: _mean(stops, fact)
                for results in found.values()
                if (stops := _stops(results, series))
            }
            axes.errorbar(
                list(points),
                [scale * value.value for value in points.values()],
                yerr=[scale * (value.half_width or 0.0) for value in points.values()],
                color=color,
                marker="o",
                markersize=3,
                capsize=2,
                label=label,
            )
    left.set(ylabel="test accuracy at early stop (%)", ylim=(94, 99), title="LeNet-300-100 on MNIST")
    right.set(ylabel="early-stop iteration", ylim=(0, 1.08 * ITERATIONS), title=f"{ITERATIONS:,} iterations")
    for axes in (left, right):
        axes.set(xscale="log", xlabel="weights remaining (%)")
        axes.invert_xaxis()
        axes.set_xticks([100, 50, 20, 10, 5, 3], ["100", "50", "20", "10", "5", "3"])
        axes.minorticks_off()
    left.legend(frameon=False)
    save_figure(figure, path)


_LTH = "Frankle & Carbin 2019, section 2 and figure 4, with 50,000 iterations and 5 trials"
_LMC = "Frankle et al. 2020, appendix, with 24,000 iterations"
_PUBLISHED = {
    0: Published("98.3 ± 0.1 %", _LMC, "read in an overview of it"),
    7: Published("2.51 times, 0.5 points; 38 % before dense", _LTH),
    9: Published("0.3 points above dense", _LTH),
    15: Published("98.2; reinit. 97.5, random 96.7 %", _LMC, "at 3.5 %, read in an overview of it"),
}


def _groups() -> list[Group]:
    groups = []
    for rounds in ROUNDS:
        controls = tuple(CONTROLS) if rounds in CONTROLLED else ()
        label = f"{100 * PROTOCOL.weights_remaining(SHAPES, rounds):.1f} % left"
        tasks = tuple(Rung(seed, rounds, controls=controls) for seed in SEEDS)
        groups.append(Group(label, tasks, _PUBLISHED.get(rounds)))
    return groups


EXPERIMENT = Experiment(
    name="lottery_tickets",
    title="Lottery tickets: LeNet-300-100 on MNIST by weights remaining",
    source=(
        "Frankle & Carbin 2019, section 2, figures 3 and 4: Gaussian Glorot, Adam 1.2e-3, batch 60, 55,000 / 5,000 /"
        " 10,000 examples, evaluated every 100 iterations, 20 % of each layer's weights left pruned per round and 10 %"
        f" of the output layer's. Shortened: {ITERATIONS:,} iterations in every round instead of 50,000, {len(SEEDS)}"
        " trials instead of 5, one reinitialisation of each ticket instead of 3, to round 16. What the paper leaves"
        " unsaid is listed by `supermask compare --protocol lenet_300_100 --dry-run`."
    ),
    groups=tuple(_groups()),
    table=Table(
        header=(
            "kept",
            "ticket",
            "stop",
            "reinitialised",
            "stop",
            "random mask",
            "stop",
            "times later",
            "points better",
            "cost",
        ),
        row=_row,
        note=(
            "Test accuracy at the iteration of least validation loss, and that iteration (stop): means over n seeds"
            " with 95 % intervals (Student's t). Reinitialised: the ticket's masks over weights of another seed; random"
            " mask: its weights with each layer's mask shuffled; both trained on the same batches. Times later, points"
            " better: how much later the reinitialised network stops than its ticket, and how many points the ticket is"
            " more accurate, paired by seed. Cost: the trainings that it takes to"
            " find the ticket and to train it, as a multiple of one training of the dense network. A stop near the last"
            " iteration was cut short."
        ),
    ),
    plot=_plot,
)
