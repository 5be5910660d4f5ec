"""Pensia et al. 2020, experiment 1, as one real masked random network: their trained 784-500-10 network on MNIST."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.experiment import Experiment, Group, Published, Table
from supermask import data
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
        from time import monotonic

        mnist = data.load("mnist", folder=data_folder)
        target = read_target(data.folder(data_folder) / "pensia2020" / "fc2.pt")
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
