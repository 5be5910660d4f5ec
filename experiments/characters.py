"""A small language model without a trained weight: the next character of Shakespeare, beside the trained network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from experiments.framework.experiment import Experiment, Group, Table
from experiments.framework.training import trainings
from supermask.report import Mean, mean
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.results import Result
from supermask.runs import Job, JobResult, SearchOptions, recorded, run
from supermask.runs.folder import STAGES
from supermask.training import Recipe

SEEDS = (0, 1, 2)
STEPS, BATCH, CONTEXT, RATE = 1000, 32, 64, 0.01
GIVEN_RATE = 0.003
"""Of the search over given weights, which begins at the largest of them and has less far to go."""

DENSE = Job(
    method="dense",
    model="char_gpt",
    data=f"text:tinyshakespeare/input.txt?context={CONTEXT}",
    validation=500,
    recipe=Recipe(
        iterations=STEPS,
        batch_size=BATCH,
        optimizer="adam",
        learning_rate=RATE,
        weight_decay=0.0,
        warm_up=0.1,
        best="loss",
        evaluate_every=STEPS // 10,
    ),
)


@dataclass(frozen=True)
class OverDense:
    """A search over the weights of the dense network of the same seed, which is trained once for all such searches.

    Attributes:
        dense: the job of the network that is masked.
        search: how the mask is searched for.
        recipe: how its scores are trained.

    """

    kind: ClassVar[type[Result]] = JobResult

    dense: Job
    search: SearchOptions
    recipe: Recipe

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.dense.seed}"

    def config(self) -> dict[str, Any]:
        """Return both jobs as plain values; where the checkpoint lies is not a part of them."""
        found: dict[str, Any] = json.loads(json.dumps({**self._job("dense").config(), "over": self.dense.config()}))
        return found

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> JobResult:
        """Train the dense network if that is not done, and search over it."""
        where: dict[str, Any] = {"device": device, "data_folder": data_folder, "resume": True, "progress": False}

        def measure(folder: Path) -> JobResult:
            dense = path.parent / STAGES / f"dense-{self.name}"
            run(self.dense, dense, **where)
            return run(self._job(str(dense / "network.safetensors")), folder / "search", **where)

        return recorded(JobResult, path, self.config(), measure, device=device, resume=True)

    def _job(self, given: str) -> Job:
        return replace(self.dense, method="edge_popup", search=self.search, recipe=self.recipe, given=given)


def _over_dense(density: float, **recipe: Any) -> tuple[OverDense, ...]:
    options = SearchOptions(density=density, weights="given")
    trained = replace(DENSE.recipe, learning_rate=GIVEN_RATE, **recipe)
    return tuple(OverDense(replace(DENSE, seed=seed), options, trained) for seed in SEEDS)


def loss(results: Sequence[JobResult]) -> Mean:
    """Return the mean test loss of a group's seeds, in nats per character."""
    return mean([result.test.loss for result in results])


def _row(results: Sequence[JobResult]) -> list[str]:
    right = mean([result.test.accuracy for result in results])
    seconds = mean([result.seconds for result in results])
    return [loss(results).text(), right.percent(), f"{results[0].kept:,}", f"{seconds.value:.0f}"]


def _plot(found: Mapping[str, Sequence[JobResult]], path: Path) -> None:
    """Draw the test losses as bars, with their intervals."""
    figure, axes = new_figure(width=7.2, height=3.0)
    losses = {label: loss(results) for label, results in reversed([*found.items()])}
    widths = [each.half_width or 0.0 for each in losses.values()]
    axes.barh([*losses], [each.value for each in losses.values()], xerr=widths, color=COLORS[0], capsize=3)
    axes.set(xlabel="test loss (nats per character)", title="Next character of Shakespeare")
    save_figure(figure, path)


def _searched(density: float) -> Job:
    return replace(DENSE, method="edge_popup", search=SearchOptions(density=density))


EXPERIMENT = Experiment(
    name="characters",
    title="The next character of Shakespeare by a transformer whose weights were never trained",
    source=(
        f"Our own, on tiny Shakespeare (Karpathy 2015): {CONTEXT} characters at a time, the last tenth of the text for"
        " testing, 500 windows drawn by seed for validation. The network is a transformer of two blocks and 64 numbers"
        f" at each position. All rows are trained by Adam at {RATE:g} with a cosine after a warm-up over a tenth of"
        f" {STEPS:,} steps, batch {BATCH}, without weight decay; the rates were chosen by the validation loss of 150"
        " steps. Edge-popup masks random signed constants, embeddings included, and nothing else is there: biases are"
        " zero and normalisation has no gains. The last two rows mask the weights of the dense network of the same"
        f" seed, and keep its biases and gains: by magnitude alone, and by scores trained at {GIVEN_RATE:g} from there."
    ),
    groups=(
        Group("dense", trainings(DENSE, SEEDS)),
        Group("edge_popup, density 0.5", trainings(_searched(0.5), SEEDS)),
        Group("edge_popup, density 0.3", trainings(_searched(0.3), SEEDS)),
        Group("largest weights of dense, density 0.3", _over_dense(0.3, iterations=0)),
        Group("edge_popup over dense, density 0.3", _over_dense(0.3)),
    ),
    table=Table(
        header=("test loss, nats per character", "test accuracy", "kept", "seconds"),
        row=_row,
        note=(
            "Test loss and accuracy of the next character: mean and 95 % interval (Student's t) over n seeds; the best"
            " step was chosen by the validation loss and the test set read once. Kept: weights, of dense all"
            " parameters. Seconds: mean per run, on a machine that did other work; those of the dense network that"
            " is masked are not counted."
        ),
    ),
    plot=_plot,
)
