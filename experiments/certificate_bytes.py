"""How many bytes a certificate costs: one target, built for one epsilon after another, beside what must be paid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from experiments.framework.building import run
from experiments.framework.experiment import Experiment, Group, Table
from experiments.trained_targets import LARGEST_IMAGE, TrainedTarget
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory import Built, bounds, construct
from theory.domains import Ball, Domain, Nonnegative

TARGET = TrainedTarget("lenet_300_100", 0.1)
MEAN, DEVIATION = 0.1307, 0.3081
BRIGHTEST_IMAGE = 17.5
"""No image of MNIST has a larger l2 norm of its pixels in [0, 1]."""
EPSILONS = (1.0, 0.1, 0.01, 0.002)


@dataclass(frozen=True, kw_only=True)
class SizeResult(Result):
    """One ticket beside its bounds.

    Attributes:
        upper: bound of the certificate.
        bytes: of the ticket.
        parameters: numbers of the target.
        kept: random weights that stay.
        entropy_bits: of the target's numbers, each layer's rounded to twice the error that the plan gives a weight.
        packing_bits: prunable weights, a bit of a mask each, of a network that holds every target whose first layer is
            any matrix of that size and of norm 1, within epsilon over the radius.
        disagreements: test images that target and ticket classify differently.
        seconds: of the construction.

    """

    upper: float
    bytes: int
    parameters: int
    kept: int
    entropy_bits: float
    packing_bits: int
    disagreements: int
    seconds: float


@dataclass(frozen=True)
class Sized:
    """LeNet-300-100, trained here, built for one epsilon.

    Attributes:
        epsilon: asked for.
        calibrate: whether the network is pruned again until epsilon is spent.
        pixels: whether the target takes pixels from 0 to 1, and the certificate is over inputs that are not negative.
        seed: of the training and of the random network.

    """

    kind: ClassVar[type[Result]] = SizeResult

    epsilon: float
    calibrate: bool
    pixels: bool
    seed: int = 0

    @property
    def name(self) -> str:
        """Epsilon."""
        return f"epsilon{self.epsilon:g}"

    @property
    def domain(self) -> Domain:
        """Where every image of MNIST is, as the target takes it."""
        return Nonnegative(BRIGHTEST_IMAGE) if self.pixels else Ball(LARGEST_IMAGE)

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        options = {"epsilon": self.epsilon, "calibrate": self.calibrate, "pixels": self.pixels, "seed": self.seed}
        return {"target": TARGET.config(), **options, "domain": str(self.domain)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> SizeResult:
        """Build the ticket; the target is trained once for all."""

        def measure(_: Path) -> SizeResult:
            target, data_set = TARGET.read(path.parent / "stages", data_folder, self.seed)
            images = data_set.test().images
            taken = images.double() / 255 if self.pixels else TARGET.prepare(data_set, images)
            return self._measure(_of_pixels(target) if self.pixels else target, taken)

        return recorded(SizeResult, path, self.config(), measure, resume=True)

    def _measure(self, target: nn.Module, images: Tensor) -> SizeResult:
        began = monotonic()
        built = construct(
            target,
            self.epsilon,
            seed=self.seed,
            domain=self.domain,
            grouped=True,
            calibrate=self.calibrate,
            input_shape=tuple(images.shape[1:]),
            progress=False,
        )
        seconds = monotonic() - began
        classes = [run(network, images).argmax(1) for network in (target.double().eval(), built.network)]
        return SizeResult(
            upper=built.certificate.upper,
            bytes=built.ticket.size,
            parameters=sum(layer.kernel.size + layer.outputs for layer in built.target.layers),
            kept=built.ticket.kept,
            entropy_bits=entropy(built),
            packing_bits=packing(built),
            disagreements=int((classes[0] != classes[1]).sum()),
            seconds=round(seconds, 1),
        )


def _of_pixels(target: nn.Module) -> nn.Sequential:
    """Return the network with its normalisation of pixels folded into the first layer."""
    network: Any = target.double()
    first = nn.Linear(784, 300, dtype=torch.float64)
    first.weight.data = network.fc1.weight.data / DEVIATION
    first.bias.data = network.fc1.bias.data - MEAN * first.weight.data.sum(dim=1)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), network.fc2, nn.ReLU(), network.fc3)


def entropy(built: Built) -> float:
    """Return the bits of the target's numbers, rounded so that none is off by more than its plan allows."""
    bits = 0.0
    for layer, tolerance in zip(built.target.layers, built.tolerances, strict=True):
        values = np.concatenate([layer.kernel.reshape(-1), layer.offset])
        _, counts = np.unique(np.round(values / (2 * tolerance)), return_counts=True)
        bits -= float((counts * np.log2(counts / values.size)).sum())
    return bits


def packing(built: Built) -> int:
    """Return the packing bound of the largest layer: every matrix of that size and of norm 1 is to be held."""
    radius, layer = built.certificate.radius, built.target.layers[0]
    return bounds.packing_parameters(min(layer.inputs, layer.outputs), min(0.5, built.epsilon / radius))


def _row(results: Sequence[SizeResult]) -> list[str]:
    (result,) = results
    stored = 4 * result.parameters
    return [
        f"{result.upper:.1e}",
        f"{result.bytes:,}",
        f"{result.bytes / stored:.2f}",
        f"{8 * result.bytes / result.parameters:.1f}",
        f"{result.entropy_bits / result.parameters:.1f}",
        f"{result.packing_bits / result.parameters:.1f}",
        f"{result.kept / result.parameters:.1f}",
        f"{result.disagreements}",
        f"{result.seconds:.0f}",
    ]


def _plot(found: Mapping[str, Sequence[SizeResult]], path: Path) -> None:
    figure, axes = new_figure()
    for color, kind in colored(_KINDS):
        results = [each for label, results in found.items() if label.startswith(f"{kind}, ") for each in results]
        places, bits = [each.upper for each in results], [8 * each.bytes / each.parameters for each in results]
        axes.plot(places, bits, color=color, marker="o", markersize=3, linestyle="-", label=f"ticket, {kind}")
        floors = [each.entropy_bits / each.parameters for each in results]
        axes.plot(places, floors, color=color, marker=".", linestyle=":", label=f"entropy, {kind}")
    axes.axhline(32, color="0.7", linewidth=1, label="float32")
    axes.set(xscale="log", xlabel="certificate", ylabel="bits per number of the target", ylim=(0, None))
    axes.set_title("What a certificate costs: LeNet-300-100")
    axes.legend(frameon=False)
    save_figure(figure, path)


_KINDS = {"plan": (False, False), "ball": (True, False), "pixels": (True, True)}


def _group(kind: str, epsilon: float) -> Group:
    return Group(f"{kind}, epsilon {epsilon:g}", (Sized(epsilon, *_KINDS[kind]),))


EXPERIMENT = Experiment(
    name="certificate_bytes",
    title="What a certificate costs in bytes",
    source=(
        "Our own. LeNet-300-100 with biases, trained on MNIST for 8 epochs as in trained_targets, in one random network"
        " (relu_diamond, grouped, seed 0) for one epsilon after another. Plan and ball: over the ball of radius"
        f" {LARGEST_IMAGE:g} in normalised pixels, pruned once, or again until nine tenths of epsilon are spent."
        " Pixels: the normalisation is folded into the first layer, and the certificate is over pixels from 0 on of"
        f" norm at most {BRIGHTEST_IMAGE:g}. Both hold every image of MNIST."
    ),
    groups=(
        _group("plan", 0.01),
        *(_group("ball", epsilon) for epsilon in EPSILONS),
        *(_group("pixels", epsilon) for epsilon in EPSILONS),
    ),
    table=Table(
        header=(
            *("upper", "bytes", "times float32", "bits", "entropy", "packing"),
            *("kept", "disagree", "seconds"),
        ),
        row=_row,
        note=(
            "Bits, entropy, packing, kept: per number of the target. Entropy: of the target's own numbers, those of"
            " each layer rounded to twice the error that a weight may have: what any code of them one by one takes."
            " Packing: theorem 2 of Pensia et al. 2020 for the largest square part of the first layer, within epsilon"
            " over the radius: a network that holds every such matrix of norm 1 has as many prunable weights, a bit of"
            " its mask each. It bounds nothing for one given target. Disagree: of 10,000 test images."
        ),
    ),
    plot=_plot,
)
