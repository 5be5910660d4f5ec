"""What pruning at initialisation leaves of each layer: masks only, nothing is trained."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.baselines import (
    SNIP,
    GraSP,
    MagnitudeAtInitialisation,
    RandomERK,
    RandomSmartRatio,
    RandomUniform,
    SynFlow,
)
from supermask.baselines.at_initialisation import AtInitialisation
from supermask.baselines.sample import Sample
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.judge.collapse import critical_compression, maximal_compression
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.results import Result
from supermask.runs import Job, build_network, load_data, recorded

COMPRESSIONS = (10, 100, 1000)
SHOWN = ("resnet20", 100)
"""Network and compression of the plot."""


@dataclass(frozen=True, kw_only=True)
class PruningResult(Result):
    """What a method leaves of each layer.

    Attributes:
        sizes: weights of each layer, by name.
        kept: of each layer, by the compression of the whole network.
        critical: compression; None where it was not looked for.
        maximal: compression, with one weight in each layer.
        seconds: of all of it.

    """

    sizes: Mapping[str, int]
    kept: Mapping[int, Mapping[str, int]]
    critical: float | None
    maximal: float
    seconds: float


@dataclass(frozen=True)
class MaskCounts:
    """The masks of a method on one network with one seed.

    Attributes:
        method: with its options.
        model: a name that `supermask.models.build` takes.
        data: whose examples the method looks at.
        critical: whether the critical compression is looked for, too.
        seed: of the weights and the examples.

    """

    kind: ClassVar[type[Result]] = PruningResult

    method: AtInitialisation
    model: str
    data: str
    critical: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the masks depend on."""
        options = self.method.recorded_options()
        config = {**asdict(self), "method": self.method.name, "options": options, "compressions": COMPRESSIONS}
        plain: dict[str, Any] = json.loads(json.dumps(config))
        return plain

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> PruningResult:
        """Prune; it takes a minute at most, and is not stopped half way."""
        return recorded(
            PruningResult,
            path,
            self.config(),
            lambda _: self._measure(device, data_folder),
            device=device,
            resume=True,
        )

    def _measure(self, device: str, data_folder: Path | None) -> PruningResult:
        began = monotonic()
        masks_at, shapes = self._chooser(torch.device(device), data_folder)
        return PruningResult(
            sizes={name: int(np.prod(shape)) for name, shape in shapes.items()},
            kept={ratio: _counted(masks_at(1 / ratio)) for ratio in COMPRESSIONS},
            critical=critical_compression(masks_at, shapes) if self.critical else None,
            maximal=maximal_compression(shapes),
            seconds=round(monotonic() - began, 1),
        )

    def _chooser(
        self, device: torch.device, data_folder: Path | None
    ) -> tuple[Callable[[float], dict[str, Tensor]], dict[str, tuple[int, ...]]]:
        """Return what makes the masks of a density, and the shapes of the layers."""
        job = Job(model=self.model, data=self.data, seed=self.seed)
        data_set = load_data(job, data_folder)
        model = build_network(job, data_set)
        network, sample = Sparse(model, whole_ticket(model, seed=self.seed)), Sample(data_set, self.seed, device)
        network.model.to(device)
        shapes = {name: tuple(weight.shape) for name, weight in network.weights().items()}
        if isinstance(self.method, SynFlow):
            return lambda density: self.method.choose(network, sample, density)[0], shapes
        scores = self.method.scores(network, sample)  # the same at every density
        return lambda density: self.method.masks(scores, density), shapes


def _counted(masks: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def _row(results: Sequence[PruningResult]) -> list[str]:
    kept = [[list(result.kept[ratio].values()) for ratio in COMPRESSIONS] for result in results]
    by_ratio = list(zip(*kept, strict=True))
    critical = [result.critical for result in results if result.critical is not None]
    return [
        " / ".join(_range(sum(counts) for counts in seeds) for seeds in by_ratio),
        *(_range(min(counts) for counts in seeds) for seeds in by_ratio),
        *(_range(counts.count(0) for counts in seeds) for seeds in by_ratio),
        _range(map(round, critical)) if critical else "-",
        _range(round(result.maximal) for result in results),
    ]


def _range(numbers: Any) -> str:
    """Return the least and the greatest number, or the one that all are."""
    found = sorted(set(numbers))
    return " to ".join(f"{number:,}" for number in dict.fromkeys([found[0], found[-1]]))


def _plot(found: Mapping[str, Sequence[PruningResult]], path: Path) -> None:
    figure, axes = new_figure(width=8.0)
    model, ratio = SHOWN
    shown = {label: results for label, results in found.items() if label.startswith(f"{model}, ")}
    for place, (label, results) in enumerate(shown.items()):
        fractions = np.mean([_fractions(result, ratio) for result in results], axis=0)
        color, line = (*COLORS, "#000000", "#999999")[place], "--" if "random" in label else "-"
        layers, method = np.arange(1, len(fractions) + 1), label.removeprefix(f"{model}, ")
        axes.plot(layers, fractions, color=color, linestyle=line, marker="o", markersize=3, linewidth=1, label=method)
    axes.set(xlabel="layer, in the order of the network", ylabel="fraction kept, mean over seeds")
    axes.set_yscale("symlog", linthresh=1e-4)
    axes.set_title(f"{model} at compression {ratio}, before any training")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _fractions(result: PruningResult, ratio: int) -> list[float]:
    return [result.kept[ratio][name] / size for name, size in result.sizes.items()]


_METHODS: Mapping[str, AtInitialisation] = {
    "snip": SNIP(),
    "grasp": GraSP(),
    "synflow": SynFlow(),
    "synflow, no floor": SynFlow(floor=0),
    "magnitude_init": MagnitudeAtInitialisation(),
    "random_uniform": RandomUniform(),
    "random_erk": RandomERK(),
    "random_smart_ratio": RandomSmartRatio(),
}
_AXIOM = Published("maximal", "Tanaka et al. 2020, theorem 3", "of a chain of layers, pruned in small enough steps")


def _group(model: str, data: str, label: str, method: AtInitialisation) -> Group:
    # without a floor, where layers are bypassed, the search would take many times as long as all else
    critical = not (model == "resnet20" and method == SynFlow(floor=0))
    tasks = tuple(MaskCounts(method, model, data, critical, seed) for seed in range(3))
    return Group(f"{model}, {label}", tasks, _AXIOM if isinstance(method, SynFlow) else None)


EXPERIMENT = Experiment(
    name="initialisation",
    title="What pruning at initialisation leaves of each layer",
    source=(
        "The question of Tanaka et al. 2020, section 3, who ask it of VGG networks, here on LeNet-300-100 (MNIST) and"
        " ResNet-20 (CIFAR-10): does a method empty a layer, and at which compression? Masks only, over weights from a"
        " Kaiming normal distribution. SNIP looks at 100 examples, GraSP at 10 of each class, SynFlow at none in 100"
        " steps. SynFlow as published has no floor, and its theorem is of chains of layers; ours keeps a weight in each"
        " layer."
    ),
    groups=tuple(
        _group(model, data, label, method)
        for model, data in (("lenet_300_100", "mnist"), ("resnet20", "cifar10"))
        for label, method in _METHODS.items()
    ),
    table=Table(
        header=(
            "kept at " + " / ".join(f"{ratio:,}" for ratio in COMPRESSIONS),
            *(f"least in a layer at {ratio:,}" for ratio in COMPRESSIONS),
            *(f"empty layers at {ratio:,}" for ratio in COMPRESSIONS),
            "critical compression",
            "maximal",
        ),
        row=_row,
        note=(
            "At compressions 10, 100 and 1,000: prunable weights over kept ones. Ranges are over the seeds. Critical:"
            " the largest compression at which every layer keeps a weight, to one weight; of random_erk and"
            " random_smart_ratio, whose rounded counts do not all grow with the density, one that one weight less would"
            " exceed. Maximal: one weight in each layer."
        ),
    ),
    plot=_plot,
)
