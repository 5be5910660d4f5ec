"""How far weights move at each learning rate: which stay the largest, signs, distance, curvature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.framework.small import CIFAR, STEPS, Study
from supermask.baselines.method import RunContext
from supermask.data import Examples
from supermask.judge.correlation import Correlation, weight_correlation
from supermask.judge.hessian import spectral_density
from supermask.report import mean
from supermask.report.plot import colored, new_figures, save_figure
from supermask.results import Result
from supermask.training import Recipe
from supermask.training.batches import Prepared
from supermask.training.telemetry import movement

SEEDS = (0, 1, 2)
RATES = (0.005, 0.01, 0.03, 0.1, 0.3)
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)
CURVED = (0, 100, STEPS)
"""Steps at which the Hessian is looked at: the start, a tenth of the training, the end."""
IMAGES = 500
"""Training images of the Hessian: its largest eigenvalue then has a standard error of some percent."""
LANCZOS = 25
"""Products with the Hessian, which bring the outermost Ritz values near the ends of the spectrum."""


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """The ends of the spectrum of the Hessian of the training loss, by the outermost Ritz values."""

    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class MovedResult(Result):
    """What one training did to the weights that it began with.

    Attributes:
        accuracy: of the last step on the test set, a fraction.
        correlations: R_p of initial and last weights, by p.
        signs: fraction of the weights whose sign changed.
        cosine: of the angle between initial and last weights.
        distance: Euclidean, between them.
        magnitudes: mean absolute value before and after.
        curvatures: by step.

    """

    accuracy: float
    correlations: Mapping[float, Correlation]
    signs: float
    cosine: float
    distance: float
    magnitudes: tuple[float, float]
    curvatures: Mapping[int, Curvature]


@dataclass(frozen=True)
class Moved(Study[MovedResult]):
    """A dense training, and how far it has gone from where it began."""

    kind: ClassVar[type[Result]] = MovedResult

    def own(self) -> dict[str, Any]:
        """Return what is compared."""
        return {"fractions": [*FRACTIONS], "curved": [*CURVED], "images": IMAGES, "lanczos": LANCZOS}

    def measure(self, context: RunContext) -> MovedResult:
        """Train, and compare the last weights with the initial ones."""
        outcome = context.train(context.sparse(), stage="dense", keep=CURVED)
        first, last = ({name: outcome.kept[step].model[name] for name in context.whole.masks} for step in (0, STEPS))
        moved = movement([*first.values()], [*last.values()])
        return MovedResult(
            accuracy=outcome.test.accuracy,
            correlations={p: weight_correlation(first, last, fraction=p) for p in FRACTIONS},
            signs=moved.signs_changed,
            cosine=moved.cosine,
            distance=moved.distance,
            magnitudes=(movement([*first.values()], [*first.values()]).magnitude, moved.magnitude),
            curvatures={step: _curvature(context, state.model) for step, state in outcome.kept.items()},
        )


def _curvature(context: RunContext, tensors: Mapping[str, Tensor]) -> Curvature:
    network = context.sparse()
    network.load_weights(tensors)
    train = context.data.train
    images = Prepared(context.data, Examples(train.images[:IMAGES], train.labels[:IMAGES]), Recipe(), batch=IMAGES)
    found = spectral_density(network.model.to(memory_format=torch.channels_last), [*images], steps=LANCZOS, probes=1)
    return Curvature(lowest=float(found.nodes.min()), highest=float(found.nodes.max()))


def _row(results: Sequence[MovedResult]) -> list[str]:
    return [
        mean([result.accuracy for result in results]).percent(),
        *(_three([result.correlations[p].value for result in results]) for p in FRACTIONS),
        f"{mean([result.signs for result in results]).value:.1%}",
        _three([result.cosine for result in results]),
        f"{mean([result.distance for result in results]).value:.1f}",
        *(
            f"{mean([result.curvatures[step].lowest for result in results]).value:.2g} to"
            f" {mean([result.curvatures[step].highest for result in results]).value:.3g}"
            for step in CURVED
        ),
    ]


def _three(values: Sequence[float]) -> str:
    return f"{mean(values).value:.3f}"


def _conclusion(found: Mapping[str, Sequence[MovedResult]]) -> str:
    chance = next(iter(found.values()))[0].correlations
    intervals = "; ".join(f"p = {p:g}: {each.low:.3f} to {each.high:.3f}" for p, each in chance.items())
    return f"Independent weights would show R_p within these bounds in 95 of 100 networks: {intervals}."


def _plot(found: Mapping[str, Sequence[MovedResult]], path: Path) -> None:
    figure, (left, right) = new_figures(2, 11.0)
    for color, (label, results) in colored(found.items()):
        values = [mean([result.correlations[p].value for result in results]).value for p in FRACTIONS]
        left.plot(FRACTIONS, values, ".-", color=color, label=label)
        highest = [mean([result.curvatures[step].highest for result in results]).value for step in CURVED]
        right.plot(CURVED, highest, ".-", color=color, label=label)
    left.plot(FRACTIONS, FRACTIONS, color="k", linestyle="--", linewidth=1, label="chance")
    left.set(xlabel="p", ylabel="R_p of initial and last weights", ylim=(0, 1), title="Weight correlation")
    right.set(xlabel="step", ylabel="highest eigenvalue of the Hessian", yscale="log", title="Curvature")
    left.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


_SAID = {
    0.01: Published("well above p", "Liu et al. 2021, figure 4, ResNet-20, 150 epochs", "read as text, not as numbers"),
    0.1: Published("near p", "Liu et al. 2021, figure 4, ResNet-20, 150 epochs", "read as text, not as numbers"),
}

EXPERIMENT = Experiment(
    name="weight_correlation",
    title="How far weights move at each learning rate",
    source=(
        "Liu et al. 2021, figure 4, and Frankle, Schwab & Morcos 2020, figure 3, in a setting that fits a CPU: ResNet-8"
        " of half width, CIFAR-10 at 16x16 pixels, 1,000 steps of SGD with momentum 0.9, a tenth of the rate after 50"
        " and 75 % of the steps (see instability.md). R_p is the share of the largest weights, a fraction p of each"
        " layer, that are the largest both at the initialisation and after the last step. The Hessian is that of the"
        f" loss on {IMAGES} training images in evaluation mode, over all parameters, seen by {LANCZOS} Lanczos steps."
    ),
    groups=tuple(
        Group(
            f"rate {rate:g}",
            tuple(Moved(CIFAR.with_recipe(learning_rate=rate), seed) for seed in SEEDS),
            _SAID.get(rate),
        )
        for rate in RATES
    ),
    table=Table(
        header=(
            "test accuracy",
            *(f"R_{p:g}" for p in FRACTIONS),
            "signs",
            "cosine",
            "distance",
            *(f"Hessian at {step:,}" for step in CURVED),
        ),
        row=_row,
        note=(
            "Means over n seeds of initialisation and order; test accuracy with its 95 % interval (Student's t). Signs:"
            " weights whose sign changed. Cosine, distance: of the last weights and the initial ones. Hessian: its"
            " lowest and highest Ritz value at a step."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
