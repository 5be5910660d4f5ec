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
from supermask.files import read_json, write_json
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import Job, build_network, load_data, recorded, run
from supermask.runs.ticket_model import built_from
from supermask.ticket import Ticket
from supermask.training import Recipe
from theory import construct
from theory.domains import Around
from theory.target import read_target

EPSILON = 0.1


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
        seconds: of the construction, with its certificate.
        images: around which it is built.
        same: those to which the target and the ticket give the same class.
        differences: of the outputs on each image, l2, in rising order.
        leads: of the target's first class over its second on each image, in rising order.
        weights: of the target, biases of folded batch norms included.
        layers: of the target, those with weights.
        kept: random weights that stay.
        prunable: random weights.
        bytes: of the ticket.
        upper: certificate at the images.
        lower: the largest difference that the certificate's search found.

    """

    seconds: float
    images: int
    same: int
    differences: tuple[float, ...]
    leads: tuple[float, ...]
    weights: int
    layers: int
    kept: int
    prunable: int
    bytes: int
    upper: float
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
        return {"target": self.source.config(), "seed": self.seed, "epsilon": EPSILON}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> SurroundedResult:
        """Build the ticket and measure it; a ticket that is there is not built again."""
        return recorded(
            SurroundedResult, path, self.config(), lambda folder: self._measure(folder, data_folder), resume=True
        )

    def _measure(self, folder: Path, data_folder: Path | None) -> SurroundedResult:
        target, images = self.source.read(folder, data_folder)
        file, facts = folder / "network.ticket", folder / "built.json"
        if not facts.exists():
            began = monotonic()
            built = construct(
                target,
                EPSILON,
                construction="convolution",
                seed=self.seed,
                domain=Around(images, 0.0),
                grouped=True,
                progress=False,
            )
            built.ticket.save(file)
            write_json(facts, {"seconds": round(monotonic() - began, 1)})
        ticket = Ticket.load(file)
        # built again from the file, as its user has it: the certificate is for just these weights, in float64
        network = ticket.apply(built_from(ticket, file).double().eval())
        wanted, found = outputs_of(target.double().eval(), images), outputs_of(network, images)
        first, second = wanted.topk(2, dim=1).values.unbind(1)
        layers = read_target(target, images.shape[1:]).layers
        return SurroundedResult(
            seconds=read_json(facts)["seconds"],
            images=len(images),
            same=int((wanted.argmax(1) == found.argmax(1)).sum()),
            differences=tuple((wanted - found).norm(dim=1).sort().values.tolist()),
            leads=tuple((first - second).sort().values.tolist()),
            weights=sum(layer.kernel.size + (layer.bias is not None) * layer.outputs for layer in layers),
            layers=len(layers),
            kept=ticket.kept,
            prunable=ticket.prunable,
            bytes=file.stat().st_size,
            **ticket.provenance["certificate"],
        )


def _row(results: Sequence[SurroundedResult]) -> list[str]:
    (result,) = results
    return [
        f"{result.weights:,}",
        f"{result.same:,} of {result.images:,}",
        f"{result.differences[-1]:.1e}",
        f"{result.upper:.1e}",
        f"{result.leads[0]:.1e}",
        f"{result.kept:,}",
        f"{result.prunable:,}",
        f"{result.bytes:,}",
        f"{result.seconds:,.0f}",
    ]


TABLE = Table(
    header=("weights", "same class", "on images", "upper", "least lead", "kept", "prunable", "bytes", "seconds"),
    row=_row,
    note=(
        "Weights: of the target, with the biases of folded batch norms. Same class: images to which the target and the"
        " ticket, read from its file, give the same class. On images: the largest difference of their outputs (l2)."
        " Upper: the certificate at the images. Least lead: of the target's first class over its second on an image; a"
        " difference below its root of 1/2 cannot change the class. Kept, prunable, bytes: random weights that stay,"
        " all of them, and the size of the ticket. Seconds: of the construction, with the certificate, on one core that"
        " other work shared."
    ),
)


def _plot(found: Mapping[str, Sequence[SurroundedResult]], path: Path) -> None:
    """Draw how many images have at most which difference, beside the certificate and what changes a class."""
    figure, axes = new_figure()
    for color, (label, (result,)) in colored(found.items()):
        share = [(place + 1) / result.images for place in range(result.images)]
        axes.plot(result.differences, share, color=color, label=label)
        axes.plot([lead / 2**0.5 for lead in result.leads], share, color=color, linestyle="--")
        axes.axvline(result.upper, color=color, linestyle=":")
    axes.set(xscale="log", xlabel="difference of the outputs, l2", ylabel="share of the images")
    axes.set_title("Differences; dashed, what may change the class; dotted, certificates")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    save_figure(figure, path)


def _conclusion(found: Mapping[str, Sequence[SurroundedResult]]) -> str:
    above = [label for label, (result,) in found.items() if result.upper > EPSILON]
    if not above:
        return f"All certificates are within epsilon, {EPSILON:g}."
    return f"The certificate is above epsilon, {EPSILON:g}, for {' and '.join(above)}: the plan was too bold."


EXPERIMENT = Experiment(
    name="residual_targets",
    title="Residual networks as masked random networks, certified near images",
    source=(
        "Not in a paper: Burkholz 2022 proves that residual networks are in random ones. ResNet-20, trained here on"
        " CIFAR-10 for 500 steps only (SGD 0.1, momentum 0.9, weight decay 5e-4, batch 128, cosine, crops and flips,"
        " bfloat16), and torchvision's ResNet-18 with an eighth of its channels, untrained, with batch norms that have"
        " seen random images. Both have their skips in the random network. Epsilon is 0.1 at the images themselves,"
        " balls of radius 0: the proof grows a ball by the norm of each layer, and there are 22."
    ),
    groups=(
        Group("resnet20, 1,000 test images", (Surrounded(Cifar(steps=500, images=1000)),)),
        Group("resnet18 of 8 channels, 100 random images", (Surrounded(Narrow(channels=8, side=64, images=100)),)),
    ),
    table=TABLE,
    plot=_plot,
    conclusion=_conclusion,
)
