"""How near a built network is to its target where the data are, beside the certificate over the whole ball."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from experiments.framework.building import TargetSource, run
from experiments.framework.experiment import Experiment, Group, Table
from experiments.framework.pensia import PensiaNetwork
from experiments.trained_targets import LARGEST_IMAGE, TrainedTarget
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import construct
from theory.ascent import norms
from theory.certificate import proven
from theory.domains import Around

RADII = (0.0, 0.001, 0.01, 0.1, 1.0)
DEPTHS = (1, 2, 3, 4, 6, 8)
WIDTH, POINTS = 24, 100
"""Units of a layer, and inputs of the networks of each depth."""


@dataclass(frozen=True, kw_only=True)
class NearResult(Result):
    """Certificates of one network.

    Attributes:
        everywhere: over the ball about zero.
        near: over balls around the points, by their radius.
        lower: the largest difference found in the ball about zero.
        measured: the largest at a point.
        points: inputs.
        seconds: of the certificates near the points, all radii.

    """

    everywhere: float
    near: Mapping[str, float]
    lower: float
    measured: float
    points: int
    seconds: float


@dataclass(frozen=True)
class NearImages:
    """A target built over a ball that holds all images, and certified around test images.

    Attributes:
        source: of the target.
        seed: of the random network, and of the target's training where it is trained here.
        radius: of the ball.
        images: the first of the test set.

    """

    kind: ClassVar[type[Result]] = NearResult

    source: TargetSource
    seed: int
    radius: float
    images: int

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        options = {"seed": self.seed, "radius": self.radius, "images": self.images, "radii": list(RADII)}
        return {"target": self.source.config(), **options}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> NearResult:
        """Build and certify; it is not stopped half way."""

        def measure(folder: Path) -> NearResult:
            target, data_set = self.source.read(folder, data_folder, self.seed)
            points = self.source.prepare(data_set, data_set.test().images[: self.images])
            return _near(target, points, seed=self.seed, radius=self.radius)

        return recorded(NearResult, path, self.config(), measure, resume=True)


@dataclass(frozen=True)
class NearPoints:
    """A random network of some depth, built over the unit ball and certified around points of its sphere.

    Attributes:
        depth: layers.
        seed: of the target, of the random network and of the points.

    """

    kind: ClassVar[type[Result]] = NearResult

    depth: int
    seed: int

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        return {**asdict(self), "width": WIDTH, "points": POINTS, "radii": list(RADII)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> NearResult:
        """Build and certify; it takes seconds."""
        return recorded(NearResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> NearResult:
        generator = torch.Generator().manual_seed(self.seed)
        points = torch.randn(POINTS, WIDTH, dtype=torch.float64, generator=generator)
        points /= points.norm(dim=1, keepdim=True)
        return _near(_random_target(self.depth, generator), points, seed=self.seed, radius=1.0)


def _random_target(depth: int, generator: torch.Generator) -> nn.Sequential:
    """Return layers of equal width as He et al. 2015 draw them, without biases, ReLUs between them."""
    modules: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64)
        layer.weight.data = sqrt(2 / WIDTH) * torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator)
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _near(target: nn.Module, points: Tensor, *, seed: int, radius: float) -> NearResult:
    shape = tuple(points.shape[1:])
    built = construct(
        target,
        0.01,
        construction="convolution",
        seed=seed,
        radius=radius,
        grouped=True,
        input_shape=shape,
        progress=False,
    )
    apart = run(target.double().eval(), points) - run(built.network, points)
    began = monotonic()
    near = {f"{ball:g}": proven(built.target, built.effective, Around(points, ball), "l2")[0] for ball in RADII}
    return NearResult(
        everywhere=built.certificate.upper,
        near=near,
        lower=built.certificate.lower,
        measured=float(norms(apart, "l2").max()),
        points=len(points),
        seconds=round(monotonic() - began, 1),
    )


def _row(results: Sequence[NearResult]) -> list[str]:
    found = [max(result.near[f"{ball:g}"] for result in results) for ball in RADII]
    times = [result.everywhere / result.near["0.01"] for result in results]
    return [
        f"{results[0].points:,}",
        f"{max(result.measured for result in results):.1e}",
        *(f"{upper:.1e}" for upper in found),
        f"{max(result.everywhere for result in results):.1e}",
        f"{max(result.lower for result in results):.1e}",
        f"{min(times):.0f}",
    ]


def _plot(found: Mapping[str, Sequence[NearResult]], path: Path) -> None:
    """Draw the bounds over what was measured, by depth."""
    figure, axes = new_figure()
    depths = [depth for depth in DEPTHS if found.get(_label(depth))]
    lines = {"over the ball": lambda result: result.everywhere} | {
        f"within {ball:g} of a point": lambda result, ball=ball: result.near[f"{ball:g}"] for ball in RADII[1:4]
    }
    for color, (label, upper) in colored(lines.items()):
        ratios = [max(upper(each) / each.measured for each in found[_label(depth)]) for depth in depths]
        axes.plot(depths, ratios, color=color, marker="o", markersize=3, label=label)
    axes.set(yscale="log", xlabel="layers of the target", ylabel="upper bound over largest difference at a point")
    axes.set_title("What the certificate gives away by depth, near data and over the ball")
    axes.legend(frameon=False)
    save_figure(figure, path)


def _label(depth: int) -> str:
    return f"{depth} layer{'s' * (depth > 1)} of {WIDTH}"


_DIGITS = TrainedTarget("lenet_300_100", 0.1, "digits", 40)
_LENET5 = PensiaNetwork("LeNet5_e50_h500.pt", normalized=True)

EXPERIMENT = Experiment(
    name="near_data",
    title="Certificates near data beside those over the whole ball",
    source=(
        "Our own. Each target is built in one random network with epsilon = 0.01 over a ball about zero (grouped,"
        " widths from epsilon), and the same network is certified once more over balls around given inputs, by hidden"
        " tensors and the states of ReLUs that are known there. LeNet-300-100 with biases, trained on the digits"
        " (40 epochs, SGD 0.1) and all 360 test images; the LeNet-5 of Pensia et al. 2020 and 1,000 test images of"
        f" MNIST; random networks of {WIDTH} units in each layer (He initialisation, no biases) over the unit ball, and"
        f" {POINTS} points of its sphere. One target and one random network per seed."
    ),
    groups=(
        *(Group(_label(depth), tuple(NearPoints(depth, seed) for seed in range(3))) for depth in DEPTHS),
        Group("LeNet-300-100, digits", tuple(NearImages(_DIGITS, seed, 10.0, 360) for seed in range(3))),
        Group("LeNet-5, MNIST", tuple(NearImages(_LENET5, seed, LARGEST_IMAGE, 1000) for seed in range(2))),
    ),
    table=Table(
        header=(
            "points",
            "measured",
            *(f"upper, within {ball:g}" for ball in RADII),
            "upper, ball",
            "lower, ball",
            "times tighter at 0.01",
        ),
        row=_row,
        note=(
            "Measured: the largest l2 difference of the outputs at a point. Upper, within rho: the bound over balls of"
            " that radius around all points; upper, ball: over the ball about zero; all are the worst of the seeds."
            " Lower: the largest difference that gradient ascent found in the ball about zero. Times tighter: the"
            " least of the seeds. A bound within 0 is what was measured, plus rounding; those"
            " within 1 of the unit sphere reach beyond the unit ball."
        ),
    ),
    plot=_plot,
)
