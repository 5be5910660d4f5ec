"""The training steps of S4 as bars: ours over dense, eagerly and as a CUDA graph."""

from collections.abc import Sequence
from pathlib import Path

from experiments.gpu.bench import Finding

_WAYS = ("eager", "CUDA graph")


def plot_ratios(findings: Sequence[Finding], path: Path) -> None:
    """Draw the ratios with their quartiles into a PNG file; without any, or without matplotlib, draw nothing."""
    rows = [finding for finding in findings if finding.stage == "S4" and "median_ms" in finding.details]
    if not rows:
        return
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    labels = list(dict.fromkeys(_network(row) for row in rows))
    figure = Figure(figsize=(7, 0.6 * len(labels) + 1.5), layout="constrained")
    axes = figure.subplots()
    for offset, way in zip((0.2, -0.2), _WAYS, strict=True):
        chosen = [row for row in rows if row.name.endswith(way)]
        places = [len(labels) - labels.index(_network(row)) + offset for row in chosen]
        values = [float(row.value or 0) for row in chosen]
        spread = [
            [value - row.details["quartiles"][0] for value, row in zip(values, chosen, strict=True)],
            [row.details["quartiles"][1] - value for value, row in zip(values, chosen, strict=True)],
        ]
        axes.barh(places, values, height=0.38, xerr=spread, label=way)
    axes.set_yticks(range(len(labels), 0, -1), labels)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("time of a step, ours / dense (median and quartiles)")
    axes.legend()
    figure.savefig(path, dpi=120)


def _network(finding: Finding) -> str:
    return finding.name.rpartition(", ")[0]
