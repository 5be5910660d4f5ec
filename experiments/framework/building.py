"""Trained networks built in one random network as tasks of experiments: their table and their plot."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from experiments.framework.experiment import Table
from supermask.data import DataSet
from supermask.graph import largest_activation
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import construct
from theory.domains import Ball, Nonnegative

BINS = np.logspace(-16, 0, 65)
"""Edges of the histogram of per-weight errors that a result keeps."""


LARGEST = 1 << 27
"""Bytes of the largest activation of a batch: the windows of a convolution take several times as many."""


class TargetSource(Protocol):
    """Where a trained network comes from, and what it takes."""

    def config(self) -> dict[str, Any]:
        """Return what it depends on, as plain values."""

    def read(self, folder: Path, data_folder: Path | None, seed: int) -> tuple[nn.Module, DataSet]:
        """Return the network, and the data set that it was trained on; `folder` may keep what is made on the way."""

    def prepare(self, data_set: DataSet, images: Tensor) -> Tensor:
        """Return images as the network takes them, float64."""


@dataclass(frozen=True, kw_only=True)
class BuildingResult(Result):
    """The size, the errors and the accuracy of a built ticket.

    Attributes:
        seconds: of the construction.
        tested: test images.
        target_correct: those that the target classifies right.
        correct: those that the ticket classifies right.
        disagreements: those on which the two differ.
        largest_difference: of their outputs on a test image, l2.
        largest_image: the l2 norm of the largest test image.
        upper: bound of the certificate over the ball.
        lower: the largest difference found in it.
        widths: of the random network.
        kept: random weights that stay.
        prunable: random weights.
        bytes: of the ticket.
        median_error: of a weight.
        largest_error: of a weight.
        histogram: of the errors of the weights, between `BINS`.

    """

    seconds: float
    tested: int
    target_correct: int
    correct: int
    disagreements: int
    largest_difference: float
    largest_image: float
    upper: float
    lower: float
    widths: tuple[int, ...]
    kept: int
    prunable: int
    bytes: int
    median_error: float
    largest_error: float
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class Building:
    """A target built in the random network of one seed, and both run on the test set.

    Attributes:
        source: of the target.
        seed: of the random network, and of the target's training where it is trained here.
        construction: by which it is built.
        epsilon: asked for, over the ball.
        radius: of the ball.
        width: hidden units per input; None chooses them from epsilon.
        grouped: whether first hops have only their blocks.
        nonnegative: whether the certificate is over the part of the ball without negative entries, where pixels are.
        calibrate: whether the one draw is pruned again until epsilon is spent.

    """

    kind: ClassVar[type[Result]] = BuildingResult

    source: TargetSource
    seed: int
    construction: str
    epsilon: float
    radius: float
    width: int | None = None
    grouped: bool = False
    nonnegative: bool = False
    calibrate: bool = False

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        options = ("seed", "construction", "epsilon", "radius", "width", "grouped")
        later = {option: True for option in ("nonnegative", "calibrate") if getattr(self, option)}
        return {"target": self.source.config(), **{option: getattr(self, option) for option in options}, **later}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> BuildingResult:
        """Build the ticket and measure it; it is not stopped half way."""
        return recorded(
            BuildingResult, path, self.config(), lambda folder: self._measure(folder, data_folder), resume=True
        )

    def _measure(self, folder: Path, data_folder: Path | None) -> BuildingResult:
        target, data_set = self.source.read(folder, data_folder, self.seed)
        began = monotonic()
        built = construct(
            target,
            self.epsilon,
            construction=self.construction,
            seed=self.seed,
            domain=Nonnegative(self.radius) if self.nonnegative else Ball(self.radius),
            width=self.width,
            grouped=self.grouped,
            calibrate=self.calibrate,
            progress=False,
        )
        seconds = monotonic() - began
        built.ticket.save(folder / "network.ticket")
        test = data_set.test()
        images = self.source.prepare(data_set, test.images)
        wanted, found = run(target.double().eval(), images), run(built.network, images)
        errors = np.concatenate([layer.reshape(-1) for layer in built.errors])
        return BuildingResult(
            seconds=round(seconds, 1),
            tested=len(images),
            target_correct=int((wanted.argmax(1) == test.labels).sum()),
            correct=int((found.argmax(1) == test.labels).sum()),
            disagreements=int((wanted.argmax(1) != found.argmax(1)).sum()),
            largest_difference=float((wanted - found).norm(dim=1).max()),
            largest_image=float(images.flatten(1).norm(dim=1).max()),
            upper=built.certificate.upper,
            lower=built.certificate.lower,
            widths=tuple(built.widths),
            kept=built.ticket.kept,
            prunable=built.ticket.prunable,
            bytes=(folder / "network.ticket").stat().st_size,
            median_error=float(np.median(errors)),
            largest_error=float(errors.max()),
            histogram=tuple(np.histogram(errors, BINS)[0].tolist()),
        )


@torch.no_grad()  # gradients would keep all that the wide networks compute, of all images
def run(network: nn.Module, images: Tensor) -> Tensor:
    """Return the outputs of a network, a hundred images at a time, fewer where its layers are wide."""
    one = largest_activation(network, images[:1])
    with _products_first(network):
        return torch.cat([network(part) for part in images.split(max(1, min(100, LARGEST // max(1, one))))])


@contextmanager
def _products_first(network: nn.Module) -> Iterator[None]:
    """Let wide float64 convolutions multiply before they add up windows, as the same modules with the same weights.

    PyTorch unfolds the windows of the many inputs first: 0.1 GB for an image in a layer of a built ResNet-20.
    """
    wide = [module for module in network.modules() if isinstance(module, nn.Conv2d) and _is_wide(module)]
    for module in wide:
        module.forward = partial(convolved, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in wide:
            del module.forward


def _is_wide(layer: nn.Conv2d) -> bool:
    plain = layer.groups == 1 and {*layer.dilation, *layer.stride} == {1} and layer.padding_mode == "zeros"
    fewer = layer.out_channels < layer.in_channels
    return plain and fewer and layer.weight.dtype is torch.float64 and not isinstance(layer.padding, str)


def convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Return what a convolution of stride 1 makes of images (batch, channels, height, width)."""
    assert not isinstance(layer.padding, str)
    down, across = layer.padding
    x = nn.functional.pad(x, (across, across, down, down))
    places = layer.weight.permute(2, 3, 0, 1)  # (height, width, outputs, inputs) of the kernel
    products = (places.flatten(0, 2) @ x.flatten(2)).view(len(x), *places.shape[:3], *x.shape[2:])
    high, wide = (side - tap + 1 for side, tap in zip(x.shape[2:], layer.kernel_size, strict=True))
    taps = [(i, j) for i in range(layer.kernel_size[0]) for j in range(layer.kernel_size[1])]
    found = torch.stack([products[:, i, j, :, i : i + high, j : j + wide] for i, j in taps]).sum(0)
    return found if layer.bias is None else found + layer.bias[:, None, None]


def _row(results: Sequence[BuildingResult]) -> list[str]:
    return [
        ", ".join(f"{target:,}" for target in dict.fromkeys(result.target_correct for result in results)),
        ", ".join(f"{result.correct:,}" for result in results),
        f"{max(result.disagreements for result in results)}",
        f"{max(result.largest_difference for result in results):.1e}",
        f"{max(result.upper for result in results):.1e}",
        f"{max(result.lower for result in results):.1e}",
        f"{results[0].kept:,}",
        f"{results[0].bytes:,}",
        f"{max(result.seconds for result in results):.0f}",
    ]


BUILT = Table(
    header=("target", "correct", "disagree", "on test", "upper", "lower", "kept", "bytes", "seconds"),
    row=_row,
    note=(
        "Target, correct: test images of 10,000 that the target and the ticket of each seed classify right. "
        "Disagree: the most on which the two differ. On test: the largest difference of their outputs on a test "
        "image (l2), of all seeds. Upper, lower: the worst certificate of the seeds over the domain, and the "
        "largest difference found in it. Kept, bytes: random weights that stay and the size of the ticket, of "
        "seed 0. Seconds: the longest construction."
    ),
)


def plot_errors(found: Mapping[str, Sequence[BuildingResult]], path: Path) -> None:
    """Draw the histogram of the per-weight errors of each group's first seed."""
    figure, axes = new_figure()
    for color, (label, results) in colored(found.items()):
        axes.stairs(results[0].histogram, BINS, color=color, label=label)
    axes.set(xscale="log", yscale="log", xlabel="error of a weight", ylabel="weights")
    axes.set_title("How far the pruned paths miss the target's weights")
    axes.legend(frameon=False)
    save_figure(figure, path)
