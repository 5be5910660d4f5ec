"""Residual networks, each built in one random network and certified near images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Protocol

import safetensors.torch
import torch
from torch import Tensor, nn

from experiments.framework.building import run as outputs_of
from experiments.framework.experiment import Experiment, Group, Table
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import Job, build_network, load_data, recorded, run
from supermask.training import Recipe
from theory import construct
from theory.domains import Around

EPSILON = 0.1
RADII = (0.0, 1e-9, 1e-6, 1e-3)
"""Of the balls for which the network that was built for the first of them is certified too."""


class Images(Protocol):
    """A residual network and the images around which it is built."""

    def config(self) -> dict[str, Any]:
        """Return what they depend on, as plain values."""

    def read(self, folder: Path, data_folder: Path | None) -> tuple[nn.Module, Tensor]:
        """Return the network and the images, float64, as it takes them."""


@dataclass(frozen=True)
class Cifar:
    """ResNet-20, trained as `supermask train` does, and test images of CIFAR-10.

    Attributes:
        steps: of its training.
        images: test images, the first ones.

    """

    steps: int
    images: int

    def job(self) -> Job:
        """Return its training."""
        recipe = Recipe(
            iterations=self.steps, learning_rate=0.1, weight_decay=5e-4, augment=True, bf16=True, channels_last=True
        )
        return Job(method="dense", model="resnet20", data="cifar10", seed=0, recipe=recipe)

    def config(self) -> dict[str, Any]:
        """Return the job and the images."""
        return {**self.job().config(), "images": self.images}

    def read(self, folder: Path, data_folder: Path | None) -> tuple[nn.Module, Tensor]:
        """Train the network, or go on with it, and return it with the images."""
        job = self.job()
        run(job, folder / "target", data_folder=data_folder, resume=True, progress=False)
        data_set = load_data(job, data_folder)
        network = build_network(job, data_set)
        network.load_state_dict(safetensors.torch.load_file(folder / "target" / "network.safetensors"))
        return network, data_set.normalize(data_set.test().images[: self.images]).double()


@dataclass(frozen=True)
class Narrow:
    """torchvision's ResNet-18 with fewer channels, whose batch norms have seen random images, and such images.

    Attributes:
        channels: of its first stage, which has 64 in torchvision.
        side: of the images.
        images: how many.

    """

    channels: int
    side: int
    images: int

    def config(self) -> dict[str, Any]:
        """Return the sizes."""
        return {"model": "torchvision resnet18", "channels": self.channels, "side": self.side, "images": self.images}

    def read(self, folder: Path, data_folder: Path | None) -> tuple[nn.Module, Tensor]:
        """Return the network and the images; both are drawn."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = narrow_resnet(self.channels)
            images = torch.rand(64 + self.images, 3, self.side, self.side)
            with torch.no_grad():
                for _ in range(20):  # momentum 0.1: the statistics are then those of the images to a tenth
                    network.train()(images[:64])
        return network.eval(), images[64:].double()


def narrow_resnet(channels: int) -> nn.Module:
    """Return torchvision's ResNet-18, by its own code, with so many channels in place of 64, and ten classes."""
    from torchvision.models.resnet import BasicBlock, ResNet  # no other experiment here needs it

    network = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=10)
    network.inplanes = channels
    network.conv1, network.bn1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels)
    for stage in range(4):
        layer = network._make_layer(BasicBlock, channels << stage, 2, stride=1 + (stage > 0))
        setattr(network, f"layer{stage + 1}", layer)
    network.fc = nn.Linear(channels << 3, 10)
    return network


@dataclass(frozen=True, kw_only=True)
class SurroundedResult(Result):
    """A built residual network near images.

    Attributes:
        seconds: of the construction, with the first certificate.
        images: around which it is built.
        same: those to which the target and the ticket give the same class.
        largest_difference: of the outputs on an image, l2.
        smallest_lead: of the target's first class over its second on an image.
        weights: of the target, biases of folded batch norms included.
        layers: of the target, those with weights.
        kept: random weights that stay.
        prunable: random weights.
        bytes: of the ticket.
        uppers: certificates over balls of `RADII`, l2.
        lower: the largest difference found in the first of them.

    """

    seconds: float
    images: int
    same: int
    largest_difference: float
    smallest_lead: float
    weights: int
    layers: int
    kept: int
    prunable: int
    bytes: int
    uppers: tuple[float, ...]
    lower: float


@dataclass(frozen=True)
class Surrounded:
    """A residual network built in the random network of one seed, around images.

    Attributes:
        source: of the network and the images.
        seed: of the random network.

    """

    kind: ClassVar[type[Result]] = SurroundedResult

    source: Images
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        return {"target": self.source.config(), "seed": self.seed, "epsilon": EPSILON, "radii": list(RADII)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> SurroundedResult:
        """Build the ticket and measure it; it is not stopped half way."""
        return recorded(
            SurroundedResult, path, self.config(), lambda folder: self._measure(folder, data_folder), resume=True
        )

    def _measure(self, folder: Path, data_folder: Path | None) -> SurroundedResult:
        target, images = self.source.read(folder, data_folder)
        began = monotonic()
        built = construct(
            target,
            EPSILON,
            construction="convolution",
            seed=self.seed,
            domain=Around(images, RADII[0]),
            grouped=True,
            progress=False,
        )
        seconds = monotonic() - began
        built.ticket.save(folder / "network.ticket")
        wanted, found = outputs_of(target.double().eval(), images), outputs_of(built.network, images)
        leads = wanted.topk(2, dim=1).values
        return SurroundedResult(
            seconds=round(seconds, 1),
            images=len(images),
            same=int((wanted.argmax(1) == found.argmax(1)).sum()),
            largest_difference=float((wanted - found).norm(dim=1).max()),
            smallest_lead=float((leads[:, 0] - leads[:, 1]).min()),
            weights=sum(layer.kernel.size + (layer.bias is not None) * layer.outputs for layer in built.target.layers),
            layers=len(built.target.layers),
            kept=built.ticket.kept,
            prunable=built.ticket.prunable,
            bytes=(folder / "network.ticket").stat().st_size,
            uppers=(built.certificate.upper, *(self._upper(built, images, radius) for radius in RADII[1:])),
            lower=built.certificate.lower,
        )

    def _upper(self, built: Any, images: Tensor, radius: float) -> float:
        return float(built.certify(Around(images, radius)).upper)


def _row(results: Sequence[SurroundedResult]) -> list[str]:
    (result,) = results
    return [
        f"{result.weights:,}",
        f"{result.same:,} of {result.images:,}",
        f"{result.largest_difference:.1e}",
        *(f"{upper:.1e}" for upper in result.uppers),
        f"{result.kept:,}",
        f"{result.prunable:,}",
        f"{result.bytes:,}",
        f"{result.seconds:.0f}",
    ]


TABLE = Table(
    header=(
        "weights", "same class", "on images", *(f"upper, rho {radius:g}" for radius in RADII),
        "kept", "prunable", "bytes", "seconds",
    ),
    row=_row,
    note=(
        "Weights: of the target, with the biases of folded batch norms. Same class: images to which the target and the"
        " ticket give the same class. On images: the largest difference of their outputs (l2). Upper: the certificates"
        " over balls of radius rho (l2) around the images, for the one ticket that is planned for rho 0. Kept,"
        " prunable, bytes: random weights that stay, all of them, and the size of the ticket. Seconds: of the"
        " construction, with the first certificate."
    ),
)  # fmt: skip


def _plot(found: Mapping[str, Sequence[SurroundedResult]], path: Path) -> None:
    """Draw the certificates by the radius of the balls."""
    figure, axes = new_figure()
    for color, (label, results) in colored(found.items()):
        axes.plot(RADII, results[0].uppers, color=color, marker="o", label=label)
    axes.axhline(EPSILON, color="gray", linestyle=":")
    axes.set(xlabel="radius of the balls, l2", ylabel="certificate")
    axes.set_xscale("symlog", linthresh=RADII[1])
    axes.set_yscale("log")
    axes.set_title("How far a residual network may be from its ticket near images")
    axes.legend(frameon=False)
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="residual_targets",
    title="Residual networks as masked random networks, certified near images",
    source=(
        "Not in a paper: Burkholz 2022 proves that residual networks are in random ones. ResNet-20, trained here on"
        " CIFAR-10 for 500 steps only (SGD 0.1, momentum 0.9, weight decay 5e-4, batch 128, cosine, crops and flips,"
        " bfloat16), and torchvision's ResNet-18 with an eighth of its channels, untrained, with batch norms that have"
        " seen random images. Both have their skips in the random network; epsilon is 0.1 around the images."
    ),
    groups=(
        Group("resnet20, 1,000 test images", (Surrounded(Cifar(steps=500, images=1000)),)),
        Group("resnet18 of 8 channels, 100 random images", (Surrounded(Narrow(channels=8, side=64, images=100)),)),
    ),
    table=TABLE,
    plot=_plot,
)
