"""Below which density a pruned layer is faster in compressed rows than dense, on one thread of a CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.framework.experiment import Experiment, Group, Table
from experiments.measuring.sparse_times import Shape, Speed, SpeedResult, crossover
from supermask.report.plot import COLORS, STYLES, new_figures, save_figure

BATCHES = (1, 16, 128)
SIZES = ((10, 100), (100, 300), (300, 784), (1024, 1024), (2048, 2048))
"""Outputs and inputs of linear layers: those of LeNet-300-100 from its last to its first, and two larger ones."""
WIDE = ((512, 8192), (256, 16384), (64, 65536))
"""Layers with inputs so many that those of a batch do not stay in the second cache of a core."""
SHOWN = (0.2, 0.1, 0.05, 0.02, 0.01)
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
LIBRARIES = ("torch", "scipy", "compiled")


def _row(results: Sequence[SpeedResult]) -> list[str]:
    (result,) = results
    found = result.density
    return [
        f"{1000 * found[0.1].median_ms['dense']:,.0f}",
        *(f"{found[density].ratio['torch'].value:.2f}" for density in SHOWN),
        *(_crossover(result, library) for library in LIBRARIES),
    ]


def _crossover(result: SpeedResult, library: str) -> str:
    return f"{crossover(result, library):.3f}" if library in result.density[0.1].ratio else "-"


def _plot(found: Mapping[str, Sequence[SpeedResult]], path: Path) -> None:
    layers = [*dict.fromkeys(label.split(",")[0] for label in found)]
    figure, panels = new_figures(len(BATCHES), 14.0)
    for panel, batch in zip(panels, BATCHES, strict=True):
        for number, layer in enumerate(layers):
            style: dict[str, Any] = {"color": COLORS[number % len(COLORS)], "linestyle": STYLES[number // len(COLORS)]}
            panel.plot([], [], marker=".", label=layer, **style)  # a layer that has no such batch is named too
            for result in found.get(f"{layer}, {batch}", ()):
                ratios = {density: each.ratio["torch"].value for density, each in result.density.items()}
                panel.plot(list(ratios), list(ratios.values()), marker=".", **style)
        panel.axhline(1, color="k", linewidth=0.8)
        panel.set(xscale="log", yscale="log", xlabel="density", title=f"batch of {batch}")
        panel.set_xticks(TICKS, [f"{density:g}" for density in TICKS])
        panel.minorticks_off()
    panels[0].set_ylabel("time of CSR over dense, one thread")
    panels[-1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _linear(outputs: int, inputs: int, batch: int) -> Group:
    large = outputs * inputs * batch > 10**8
    speed = Speed(Shape(outputs, inputs, batch), rounds=7 if large else 11, burst=1 if large else 5)
    return Group(f"linear {inputs} to {outputs}, {batch}", (speed,))


def _convolution(channels: int, kernel: int, side: int, batch: int) -> Group:
    speed = Speed(Shape(channels, channels, batch, kernel, side), rounds=7 if batch > 1 else 11, burst=3)
    return Group(f"{kernel}x{kernel} conv {channels}, {batch}", (speed,))


EXPERIMENT = Experiment(
    name="sparse_speed",
    title="Below which density compressed rows are faster than a dense layer, on a CPU",
    source=(
        "Random layers on random inputs, float32, on one thread. Dense: PyTorch's linear layer or convolution. In"
        " compressed rows (CSR): by PyTorch, which calls MKL, by SciPy, and by a loop compiled with numba; 3x3"
        " convolutions are unfolded first. All ways take turns in one process. The time is that of the thread on its"
        " core; it depends on the machine, and through the shared caches on what else that does."
    ),
    groups=(
        *(_linear(*size, batch) for size in SIZES for batch in BATCHES),
        *(_linear(*size, batch) for size in WIDE for batch in BATCHES[1:]),
        *(_convolution(*layer, batch) for layer in ((64, 1, 16), (256, 1, 8), (64, 3, 16)) for batch in (1, 16)),
    ),
    table=Table(
        header=("dense µs", *(f"at {density:g}" for density in SHOWN), *LIBRARIES),
        row=_row,
        note=(
            "Rows: layer, and batch; images of the convolutions have 16x16 pixels at 64 channels and 8x8 at 256. Dense:"
            " microseconds of the dense layer. At: the median, over the rounds, of the time of PyTorch's CSR over that"
            " of the dense layer at this density. Torch, scipy, compiled: the density below which that way is faster"
            " than the dense layer, interpolated; 0 where it never is."
        ),
    ),
    plot=_plot,
)
