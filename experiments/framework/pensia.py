"""The trained networks that Pensia et al. 2020 published with their code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supermask import data
from supermask.data import DataSet
from supermask.data.folder import data_folder as folder_of
from supermask.errors import DataError


def fully_connected() -> nn.Sequential:
    """Return the architecture of fc2.pt: 784-500-10, ReLU, no biases."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 500, bias=False), nn.ReLU(), nn.Linear(500, 10, bias=False))


def lenet5() -> nn.Sequential:
    """Return the architecture of LeNet5_e50_h500.pt: LeNet-5 with ReLU and 2x2 max pooling, no biases."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2, bias=False), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120, bias=False), nn.ReLU()),
        *(nn.Linear(120, 84, bias=False), nn.ReLU()),
        nn.Linear(84, 10, bias=False),
    )


ARCHITECTURES = {"fc2.pt": fully_connected, "LeNet5_e50_h500.pt": lenet5}


@dataclass(frozen=True)
class PensiaNetwork:
    """One of the authors' networks, on MNIST.

    Attributes:
        file: a name in ARCHITECTURES, in the folder pensia2020 of the data folder.
        normalized: whether it takes (pixels - 0.1307) / 0.3081, or pixels in [0, 1].

    """

    file: str
    normalized: bool

    def config(self) -> dict[str, Any]:
        """Return the file and how its images are prepared."""
        return {"file": self.file, "normalized": self.normalized}

    def read(self, folder: Path, data_folder: Path | None, seed: int) -> tuple[nn.Module, DataSet]:
        """Return the network and MNIST."""
        return read_network(self.file, data_folder), data.load("mnist", folder=data_folder)

    def prepare(self, data_set: DataSet, images: Tensor) -> Tensor:
        """Return images as the network takes them, float64."""
        pixels = images.double() / 255
        return (pixels - 0.1307) / 0.3081 if self.normalized else pixels


def read_network(file: str, data_folder: Path | None) -> nn.Sequential:
    """Return one of the authors' networks, float32.

    Raises:
        DataError: the file is not there.

    """
    path = folder_of(data_folder) / "pensia2020" / file
    if not path.exists():
        raise DataError(f"There is no {path}; put the authors' {file} into the folder pensia2020 of the data folder.")
    network = ARCHITECTURES[file]()
    state = torch.load(path, weights_only=True, map_location="cpu")
    for parameter, name in zip(network.parameters(), sorted(state), strict=True):  # conv1, conv2, fc1, fc2, fc3
        parameter.data.copy_(state[name])
    return network
