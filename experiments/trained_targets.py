"""Networks with biases and pooling, trained here on MNIST, each built in one random network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from experiments.framework.building import BUILT, Building, plot_errors
from experiments.framework.experiment import Experiment, Group
from supermask.data import DataSet
from supermask.runs import Job, build_network, load_data, run
from supermask.training import Recipe

LARGEST_IMAGE = 45.0
"""No image of MNIST, normalised, has a larger l2 norm, so the certificate holds on every one of them."""


@dataclass(frozen=True)
class TrainedTarget:
    """A dense network of the models, trained as `supermask train` does."""

    model: str
    learning_rate: float
    data: str = "mnist"
    epochs: int = 8

    def job(self, seed: int) -> Job:
        """Return its training."""
        return Job(
            method="dense",
            model=self.model,
            data=self.data,
            seed=seed,
            recipe=Recipe(epochs=self.epochs, learning_rate=self.learning_rate),
        )

    def config(self) -> dict[str, Any]:
        """Return the job; the seed is that of the random network."""
        return {key: value for key, value in self.job(0).config().items() if key != "seed"}

    def read(self, folder: Path, data_folder: Path | None, seed: int) -> tuple[nn.Module, DataSet]:
        """Train the network, or go on with it, and return it with its data set."""
        job = self.job(seed)
        run(job, folder / "target", data_folder=data_folder, resume=True, progress=False)
        data_set = load_data(job, data_folder)
        network = build_network(job, data_set)
        network.load_state_dict(safetensors.torch.load_file(folder / "target" / "network.safetensors"))
        return network, data_set

    def prepare(self, data_set: DataSet, images: Tensor) -> Tensor:
        """Return normalised images, float64."""
        return data_set.normalize(images).double()


def _group(model: str, learning_rate: float, construction: str, seeds: int) -> Group:
    tasks = (
        Building(TrainedTarget(model, learning_rate), seed, construction, 0.01, LARGEST_IMAGE) for seed in range(seeds)
    )
    return Group(f"{model}, {construction}", tuple(tasks))


EXPERIMENT = Experiment(
    name="trained_targets",
    title="Trained networks with biases and pooling as masked random networks",
    source=(
        "Not in a paper: LeNet-300-100 and LeNet-5 with biases, trained on MNIST for 8 epochs (SGD 0.1 and 0.01,"
        " momentum 0.9, batch 128, cosine), one target and one random network per seed, widths chosen from"
        " epsilon = 0.01 over a ball that holds all images of MNIST, so that the certificate holds on each of them."
    ),
    groups=(_group("lenet_300_100", 0.1, "relu_diamond", seeds=3), _group("lenet5", 0.01, "convolution", seeds=2)),
    table=BUILT,
    plot=plot_errors,
)
