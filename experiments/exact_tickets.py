"""LeNet-300-100 with weights of few bits, exactly inside one random network of integers (Kumar & Natale 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np

from experiments.framework.building import run
from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.trained_targets import TrainedTarget
from supermask.data import DataSet
from supermask.random.weights import grow_all
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import laws
from theory.exact import BuiltExactly, IntegerInputs, construct_exact
from theory.subset_sum import solve

ITEMS = (12, 16, 20)
"""Numbers of items for which weights without an exact subset are counted."""


@dataclass(frozen=True, kw_only=True)
class ExactResult(Result):
    """The sizes of an exact ticket, and how it does on the test set.

    Attributes:
        seconds: of the construction.
        tested: test images.
        float_correct: those that the trained network classifies right.
        correct: those that the ticket does.
        differences: outputs of the ticket, of all images, that differ from those of the rounded network in int64.
        upper: of the certificate, over all images of whole pixels.
        missed: weights that the ticket misses.
        largest: bound of every partial sum.
        weights: of the target, biases included.
        kept: random weights that stay.
        prunable: random weights.
        bytes: of the ticket.
        tried: nonzero weights, biases apart, that were given exactly n items, by n.
        failed: those of them that no subset adds up to.
        predicted: the share that the local limit law expects to fail on these items.

    """

    seconds: float
    tested: int
    float_correct: int
    correct: int
    differences: int
    upper: float
    missed: int
    largest: float
    weights: int
    kept: int
    prunable: int
    bytes: int
    tried: tuple[int, ...]
    failed: tuple[int, ...]
    predicted: tuple[float, ...]


@dataclass(frozen=True)
class Exactly:
    """A trained network, rounded to few bits, in the random network of one seed."""

    kind: ClassVar[type[Result]] = ExactResult

    source: TrainedTarget
    bits: int
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        return {"target": self.source.config(), "bits": self.bits, "seed": self.seed, "items": list(ITEMS)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> ExactResult:
        """Build the ticket and measure it; it is not stopped half way."""
        return recorded(
            ExactResult, path, self.config(), lambda folder: self._measure(folder, data_folder), resume=True
        )

    def _measure(self, folder: Path, data_folder: Path | None) -> ExactResult:
        network, data_set = self.source.read(folder, data_folder, self.seed)
        began = monotonic()
        built = construct_exact(
            network,
            bits=self.bits,
            inputs=whole_pixels(data_set),
            seed=self.seed,
            grouped=True,
            input_shape=data_set.input_shape,
            progress=False,
        )
        seconds = monotonic() - began
        built.ticket.save(folder / "network.ticket")
        test = data_set.test()
        trained = run(network.double().eval(), self.source.prepare(data_set, test.images))
        found, wanted = run(built.network, test.images.double()), built.quantised(test.images.long())
        return ExactResult(
            seconds=round(seconds, 1),
            tested=len(test),
            float_correct=int((trained.argmax(1) == test.labels).sum()),
            correct=int((found.argmax(1) == test.labels).sum()),
            differences=int((found != wanted.double()).sum()),
            upper=built.certificate.upper,
            missed=built.certificate.missed,
            largest=built.certificate.largest,
            weights=sum(parameter.numel() for parameter in network.parameters()),
            kept=built.ticket.kept,
            prunable=built.ticket.prunable,
            bytes=(folder / "network.ticket").stat().st_size,
            **failures(built),
        )


def whole_pixels(data_set: DataSet) -> IntegerInputs:
    """Return which whole numbers the pixels of a data set are, and how a network that takes them normalised does."""
    (mean,), (std,) = data_set.mean, data_set.std
    return IntegerInputs(0, 255, 1.0 / (data_set.scale * std), -mean / std)


def failures(built: BuiltExactly) -> dict[str, Any]:
    """Return how many nonzero weights have no exact subset among their first n items, for each n."""
    found = [_failures(built, n) for n in ITEMS]
    tried, failed, predicted = zip(*found, strict=True)
    return {"tried": tried, "failed": failed, "predicted": predicted}


def _failures(built: BuiltExactly, n: int) -> tuple[int, int, float]:
    tried = failed = 0
    expected = 0.0
    grown = iter(grow_all(built.ticket.weights, built.ticket.seed).values())
    for layer, width in zip(built.quantised.target.layers, built.widths, strict=True):
        first, second = next(grown), next(grown)
        hop = first.numpy().reshape(-1, width)
        hops = second.numpy().reshape(layer.outputs, len(hop), width).astype(np.float64)
        for column, weights in enumerate(layer.kernel.reshape(layer.outputs, -1).T):
            units = np.flatnonzero(hop[column] > 0)[:n]
            wanted = np.flatnonzero(weights)
            if len(units) < n or not len(wanted):
                continue
            items = hops[wanted, column][:, units]
            tried += len(wanted)
            failed += int((solve(items, weights[wanted], threads=1).error > 0.25).sum())
            # sums are whole numbers, one apart: an error below one half is none
            expected += len(wanted) * laws.predicted_failure(items, weights[wanted], 0.5)
    return tried, failed, expected / max(1, tried)


def _row(results: Sequence[ExactResult]) -> list[str]:
    first = results[0]
    return [
        ", ".join(f"{result.float_correct:,}" for result in results),
        ", ".join(f"{result.correct:,}" for result in results),
        f"{max(result.differences for result in results)}",
        f"{max(result.upper for result in results):g}",
        f"2^{np.log2(max(result.largest for result in results)):.1f}",
        *(_failed(results, i) for i in range(len(ITEMS))),
        f"{first.kept / first.weights:.2f}",
        f"{first.bytes:,}",
        f"{8 * first.bytes / first.weights:.1f}",
        f"{max(result.seconds for result in results):.0f}",
    ]


def _failed(results: Sequence[ExactResult], i: int) -> str:
    tried, failed = (sum(getattr(result, part)[i] for result in results) for part in ("tried", "failed"))
    found = laws.clopper_pearson(failed, tried)
    law = np.mean([result.predicted[i] for result in results])
    return f"{found.value:.1e} ({found.low:.1e} to {found.high:.1e}), law {law:.1e}"


def _plot(found: Mapping[str, Sequence[ExactResult]], path: Path) -> None:
    figure, axes = new_figure(height=3.4)
    for color, (label, results) in colored(found.items()):
        shares = [
            laws.clopper_pearson(sum(r.failed[i] for r in results), sum(r.tried[i] for r in results))
            for i in range(len(ITEMS))
        ]
        values = np.array([[max(share.value, share.low, 1e-9), share.low, share.high] for share in shares])
        errors = np.abs(values[:, 1:].T - values[:, 0])
        axes.errorbar(ITEMS, values[:, 0], errors, marker="o", capsize=3, color=color, label=label)
        law = [np.mean([result.predicted[i] for result in results]) for i in range(len(ITEMS))]
        axes.plot(ITEMS, law, linestyle="--", linewidth=1.0, color=color)
    title = "Weights without an exact subset (dashed: the local limit law)"
    axes.set(yscale="log", xlabel="items", xticks=ITEMS, ylabel="share of weights", ylim=(1e-7, 1.0), title=title)
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


_THEORY = Published("n > log2 M + O(log n)", "Kumar & Natale 2025, lemma 4 (after Borgs et al. 2001)", "theory alone")
_TARGET = TrainedTarget("lenet_300_100", 0.1)

EXPERIMENT = Experiment(
    name="exact_tickets",
    title="LeNet-300-100 of few bits exactly inside a random network of integers",
    source=(
        "Kumar & Natale 2025 prove that a random network of integers, wider by a factor of the order of the bits,"
        " holds every smaller network of as many bits exactly; no experiment is published. Here LeNet-300-100 is"
        " trained on MNIST (as in trained_targets), its weights, biases and normalisation are rounded to whole"
        " numbers, and one random network of random signs and uniform integers of as many bits is pruned to it. Inputs"
        " are pixels from 0 to 255, and every number between them and the outputs is whole."
    ),
    groups=tuple(
        Group(f"{bits} bits", tuple(Exactly(_TARGET, bits, seed) for seed in seeds), _THEORY)
        for bits, seeds in ((8, (0, 1, 2)), (6, (0, 1, 2)), (4, (0, 1, 2)))
    ),
    table=Table(
        header=(
            "float correct",
            "correct",
            "differences",
            "upper",
            "largest sum",
            *(f"failed at n = {n}" for n in ITEMS),
            "kept per weight",
            "bytes",
            "bits per weight",
            "seconds",
        ),
        row=_row,
        note=(
            "Float correct, correct: test images of 10,000 that the trained network and the ticket classify right, of"
            " each seed. Differences: outputs, of all images, in which the ticket, run in float64, is not the rounded"
            " network, run in int64. Upper: of the certificate, for every image of whole pixels; 0 is proven equality."
            " Largest sum: the bound of every partial sum, below 2^53. Failed: nonzero weights that no subset of the"
            " first n items of their block adds up to, of all seeds, with Clopper-Pearson intervals of 95 %, beside the"
            " share that the local limit law (theory.laws) expects, too low where few are missed, because they lie near"
            " the ends of the range and beyond, and whole numbers repeat (theory/laws/whole.py). The tickets give such"
            " weights more items of the same draw. Kept, bytes: of seed 0; the float32 file has 32 bits per weight."
        ),
    ),
    plot=_plot,
)
