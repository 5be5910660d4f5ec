"""Settings in which whole trainings take seconds on a CPU (fewer pixels, fewer examples), and studies of them."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch

from supermask.baselines.method import RunContext
from supermask.data import DataSet
from supermask.data.small import few, pooled
from supermask.files import make_folder
from supermask.results import Result
from supermask.runs import Job, load_data, recorded
from supermask.runs.folder import STAGES
from supermask.runs.run_job import context_of
from supermask.training import Recipe

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Small:
    """A job on a part of a data set with smaller images.

    Attributes:
        job: its network, data set and recipe; the seed is replaced.
        size: pixels of a side of the images; None leaves them as they are.
        train: training examples; None are all.
        test: test examples; None are all.

    """

    job: Job
    size: int | None = None
    train: int | None = None
    test: int | None = None

    def seeded(self, seed: int) -> "Small":
        """Return the setting with another initialisation; the examples and their split stay."""
        return replace(self, job=replace(self.job, seed=seed, split_seed=0))

    def with_recipe(self, **changes: Any) -> "Small":
        """Return the setting with another recipe."""
        return replace(self, job=replace(self.job, recipe=replace(self.job.recipe, **changes)))

    def config(self) -> dict[str, Any]:
        """Return the setting as it comes back from JSON."""
        config: dict[str, Any] = {"job": self.job.config(), "size": self.size, "train": self.train, "test": self.test}
        return json.loads(json.dumps(config))

    def data(self, folder: Path | None) -> DataSet:
        """Return the data set."""
        found = load_data(self.job, folder)
        if self.train is not None and self.test is not None:
            found = few(found, train=self.train, test=self.test)
        return found if self.size is None else pooled(found, self.size)

    def context(self, path: Path, *, device: str, data_folder: Path | None) -> RunContext:
        """Return what the setting works with; tasks of one experiment share the trainings that they have in common.

        Args:
            path: folder of the task.
            device: where to compute.
            data_folder: where the data sets lie.

        """
        return context_of(
            self.job.settled(),
            self.data(data_folder),
            path,
            make_folder(path.parent / STAGES),
            device=torch.device(device),
            checkpoint_seconds=600.0,
            progress=False,
        )


@dataclass(frozen=True)
class Study(ABC, Generic[R]):
    """A task that trains one network again and again, from one initialisation.

    Trainings that several studies of an experiment have in common are carried out once.

    Attributes:
        setting: how the network is trained.
        seed: of the initial weights; the examples and their split are the same for all seeds.

    """

    kind: ClassVar[type[Result]]

    setting: Small
    seed: int

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    @property
    def seeded(self) -> Small:
        """The setting with the seed."""
        return self.setting.seeded(self.seed)

    def config(self) -> dict[str, Any]:
        """Return all that the study depends on."""
        own: dict[str, Any] = json.loads(json.dumps(self.own()))
        return {**own, **self.seeded.config()}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> R:
        """Carry it out; trainings that are finished are not repeated."""

        def measure(_: Path) -> R:
            return self.measure(self.seeded.context(path, device=device, data_folder=data_folder))

        return recorded(cast(type[R], self.kind), path, self.config(), measure, device=device, resume=True)

    @abstractmethod
    def own(self) -> dict[str, Any]:
        """Return what it depends on besides the setting, as plain values."""

    @abstractmethod
    def measure(self, context: RunContext) -> R:
        """Carry it out and return the result, without `config` and `made`."""


STEPS = 1000
"""Optimizer steps of a training on CIFAR-10: 20 to 30 seconds of one core."""
CIFAR = Small(
    Job(
        method="dense",
        model="resnet8",
        width=0.5,
        data="cifar10",
        validation=2500,
        recipe=Recipe(
            iterations=STEPS,
            batch_size=64,
            decay="step",
            augment=True,
            padding=2,
            channels_last=True,
            evaluate_every=STEPS,
            best="loss",
        ),
    ),
    size=16,
    train=20_000,
    test=4_000,
)
FASHION = replace(CIFAR, job=replace(CIFAR.job, data="fashion_mnist"), size=14).with_recipe(
    iterations=800, evaluate_every=800
)
LENET = Small(
    Job(
        method="dense",
        model="lenet_300_100",
        data="mnist",
        recipe=Recipe(
            iterations=3000,
            batch_size=60,
            optimizer="adam",
            learning_rate=1.2e-3,
            weight_decay=0.0,
            decay="constant",
            evaluate_every=3000,
        ),
    )
)
