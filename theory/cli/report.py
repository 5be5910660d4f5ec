"""What `supermask construct` measured: as plain values, and as tables."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from supermask.report import table
from supermask.versions import commit, machine, versions
from theory import Built
from theory.cli.compare import NetworkComparison
from theory.target import Matrix, TargetLayer


@dataclass(frozen=True)
class LayerReport:
    """One layer of the target and the errors of its weights, biases included.

    Attributes:
        shape: outputs x inputs, in a convolution with the window.
        weights: how many there are.
        width: hidden units of the random network per input.
        kept: random weights that stand for it.
        share: the error that each weight may have for the whole to be within epsilon.
        above: weights that are missed by more.
        median: error.
        largest: error.

    """

    shape: str
    weights: int
    width: int
    kept: int
    share: float
    above: int
    median: float
    largest: float


def layer_reports(built: Built) -> list[LayerReport]:
    """Return a report for each layer of the target."""
    kept = [counts.kept for counts in built.counts]
    layers = zip(built.target.layers, built.widths, kept, built.tolerances, built.errors, strict=True)
    return [_layer(*each) for each in layers]


def _layer(layer: TargetLayer, width: int, kept: int, share: float, errors: Matrix) -> LayerReport:
    sizes = layer.kernel.shape if layer.convolutional else layer.kernel.shape[:2]
    shape = "x".join(map(str, sizes)) + (" + bias" if layer.bias is not None else "")
    above, median = int((errors > share).sum()), float(np.median(errors))
    return LayerReport(shape, errors.size, width, kept, share, above, median, float(errors.max()))


@dataclass(frozen=True, eq=False)
class ConstructionReport:
    """All that was measured.

    Attributes:
        target: its name.
        built: what was built.
        layers: of the target.
        comparison: on the test set, if there is one.
        size: bytes of the ticket's file.
        seconds: that building and certifying took.

    """

    target: str
    built: Built
    layers: list[LayerReport]
    comparison: NetworkComparison | None
    size: int
    seconds: float

    def values(self) -> dict[str, Any]:
        """Return it as JSON takes it; a bound that is infinite is null."""
        ticket = self.built.ticket
        return _plain(
            {
                "target": self.target,
                "within": self.built.within,
                "certificate": asdict(self.built.certificate) | {"domain": str(self.built.certificate.domain)},
                "layers": [asdict(layer) for layer in self.layers],
                "counts": [asdict(counts) for counts in self.built.counts],
                "test": asdict(self.comparison) if self.comparison else None,
                "kept": ticket.kept,
                "prunable": ticket.prunable,
                "bytes": self.size,
                "seconds": round(self.seconds, 3),
                "versions": versions(),
                "machine": machine(),
                "commit": commit(),
            }
        )

    def text(self, construction: str, seed: int, data: str | None) -> str:
        """Return a table of the layers and one of the whole."""
        header = [
            "layer",
            "weights",
            "hidden per input",
            "kept",
            "may miss by",
            "median error",
            "largest error",
            "above",
        ]
        rows = [_row(layer) for layer in self.layers]
        facts = {"result": self.verdict(), **self._facts(), **self._on(data)}
        whole = table([f"{self.target} by {construction}", f"seed {seed}"], [[*fact] for fact in facts.items()])
        return f"{table(header, rows)}\n\n{whole}"

    def verdict(self) -> str:
        """Return in words whether the random network contains the target within epsilon, and what it reached."""
        certificate, epsilon = self.built.certificate, f"{self.built.epsilon:g}"
        if self.built.within:
            return f"within epsilon {epsilon}: at most {certificate.upper:.2g} apart"
        if certificate.lower > self.built.epsilon:
            return f"not within epsilon {epsilon}: {certificate.lower:.2g} apart, at most {certificate.upper:.2g}"
        return (
            f"not proven within epsilon {epsilon}: at most {certificate.upper:.2g} apart, {certificate.lower:.2g} found"
        )

    def _facts(self) -> dict[str, str]:
        certificate, ticket, counts = self.built.certificate, self.built.ticket, self.built.counts
        constants = [layer.constant for layer in counts]
        return {
            "proven for inputs up to": f"{certificate.norm} norm {certificate.radius:.4g}"
            + ("" if certificate.domain.signed else ", none negative"),
            "largest difference, proven": f"{certificate.upper:.3g}",
            "largest difference, found": f"{certificate.lower:.3g}",
            "weights of the target": f"{sum(layer.weights for layer in self.layers):,}",
            "random weights kept": f"{ticket.kept:,} of {ticket.prunable:,} ({ticket.density:.2%})",
            "to hold every target of this size": f"{max(layer.packing for layer in counts):,} random weights at least",
            "as wide as theorem 1 with C": f"{min(constants):.2f} to {max(constants):.2f}",
            "bytes of the ticket": f"{self.size:,}",
            "seconds": f"{self.seconds:.1f}",
        }

    def _on(self, data: str | None) -> dict[str, str]:
        found = self.comparison
        if found is None:
            return {}
        beyond = "within" if found.within else "not within"
        return {
            f"target correct on {data}": f"{found.target_correct:,} of {found.total:,}",
            f"ticket correct on {data}": f"{found.correct:,} of {found.total:,}",
            "classified differently": f"{found.disagreements:,}",
            "largest difference there": f"{found.largest_difference:.3g}, {beyond} epsilon",
            "images outside of the domain": f"{found.outside:,}",
        }


def _row(layer: LayerReport) -> list[str]:
    errors = (f"{error:.2g}" for error in (layer.share, layer.median, layer.largest))
    return [layer.shape, f"{layer.weights:,}", str(layer.width), f"{layer.kept:,}", *errors, f"{layer.above:,}"]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
