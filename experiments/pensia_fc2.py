"""Pensia et al. 2020, experiment 1, as one real masked random network: their trained 784-500-10 network on MNIST."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.experiment import Experiment, Group, Published, Table
from supermask import data
from supermask.data.folder import data_folder as folder_of
from supermask.errors import DataError
from supermask.report.plot import COLORS, new_figure, save_figure
from supermask.runs import Result, recorded
from theory import Built, construct

EPSILON, WIDTH, SEEDS = 0.01, 64, (0, 1, 2)
BINS = np.logspace(-16, 0, 65)
"""Edges of the histogram of per-weight errors that a result keeps."""


@dataclass(frozen=True)
class Construction:
    """The target built in the random network of one seed, and both run on the MNIST test set."""

    seed: int

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        return {"target": "fc2.pt", "epsilon": EPSILON, "width": WIDTH, "radius": 1.0, "norm": "l2", "seed": self.seed}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> Result:
        """Build the ticket and measure it; it is not stopped half way."""
        return recorded(path, self.config(), lambda folder: self._measure(folder, data_folder), resume=True)

    def _measure(self, folder: Path, data_folder: Path | None) -> dict[str, Any]:
        mnist = data.load("mnist", folder=data_folder)
        target = read_target(folder_of(data_folder) / "pensia2020" / "fc2.pt")
        began = monotonic()
        built = construct(target, EPSILON, width=WIDTH, seed=self.seed)
        seconds = monotonic() - began
        built.ticket.save(folder / "network.ticket")
        test = mnist.test()
        pixels = test.images.double() / 255  # as the target was trained
        wanted, found = _outputs(target.double(), pixels), _outputs(built.network, pixels)
        return {
            "seconds": round(seconds, 1),
            "target_correct": int((wanted.argmax(1) == test.labels).sum()),
            "correct": int((found.argmax(1) == test.labels).sum()),
            "disagreements": int((wanted.argmax(1) != found.argmax(1)).sum()),
            "largest_difference": float((wanted - found).norm(dim=1).max()),
            **_size(built),
        }


def read_target(path: Path) -> nn.Sequential:
    """Return the trained network of Pensia et al., without biases.

    Raises:
        DataError: the file is not there.

    """
    if not path.exists():
        raise DataError(f"There is no {path}; put the authors' fc2.pt into the folder pensia2020 of the data folder.")
    state = torch.load(path, weights_only=True, map_location="cpu")
    target = nn.Sequential(nn.Flatten(), nn.Linear(784, 500, bias=False), nn.ReLU(), nn.Linear(500, 10, bias=False))
    target[1].load_state_dict({"weight": state["fc1.weight"]})
    target[3].load_state_dict({"weight": state["fc2.weight"]})
    return target


@torch.no_grad()
def _outputs(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(part) for part in images.split(500)])


def _size(built: Built) -> dict[str, Any]:
    errors = np.concatenate([layer.reshape(-1) for layer in built.errors])
    return {
        "upper": built.certificate.upper,
        "lower": built.certificate.lower,
        "kept": built.ticket.kept,
        "prunable": built.ticket.prunable,
        "bytes": built.ticket.size,
        "median_error": float(np.median(errors)),
        "largest_error": float(errors.max()),
        "histogram": np.histogram(errors, BINS)[0].tolist(),
    }


def _row(results: Sequence[Result]) -> list[str]:
    worst = max(result["upper"] for result in results)
    correct = ", ".join(f"{result['correct']:,}" for result in results)
    return [
        f"{results[0]['target_correct']:,}",
        correct,
        f"{max(result['disagreements'] for result in results)}",
        f"{worst:.4f}",
        f"{max(result['lower'] for result in results):.5f}",
        f"{results[0]['kept']:,}",
        f"{max(result['seconds'] for result in results):.0f}",
    ]


def _plot(found: Mapping[str, Sequence[Result]], path: Path) -> None:
    figure, axes = new_figure()
    for color, result in zip(COLORS, next(iter(found.values())), strict=False):
        axes.stairs(result["histogram"], BINS, color=color, label=f"seed {result['config']['seed']}")
    axes.set(xscale="log", yscale="log", xlabel="error of a weight", ylabel="weights")
    axes.set_title("The 397,000 weights of a 784-500-10 network as subset sums")
    axes.legend(frameon=False)
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="pensia_fc2",
    title="Pensia et al. 2020, experiment 1, as one masked random network",
    source=(
        "The authors approximate each of the 397,000 weights of a trained 784-500-10 network by a subset sum"
        " of 21 numbers, weight by weight, to 0.01 each: 97.19 % on MNIST as the target, 3,725,871 of 8,337,000"
        " numbers kept, 77,266 s on 36 cores with a commercial solver. Here the target is built in one random"
        " network of twice its layers, 64 hidden units per input, drawn once; the masked network is run in"
        " float64 on the test set and certified over the unit ball (l2). The target is the authors' own"
        " (fc2.pt)."
    ),
    groups=(
        Group(
            "relu_diamond, width 64",
            tuple(Construction(seed) for seed in SEEDS),
            Published("9,719", "the authors' repository, acnagle/optimal-lottery-tickets", "97.19 % of 10,000"),
        ),
    ),
    table=Table(
        header=("target", "correct", "disagree", "upper", "lower", "kept", "seconds"),
        row=_row,
        note=(
            "Target, correct: test images of 10,000 that the target and the ticket of each seed classify"
            " right. Disagree: the most on which the two differ. Upper, lower: the worst certificate of the"
            " seeds. Kept: random weights, of seed 0. Seconds: the longest construction."
        ),
    ),
    plot=_plot,
)
