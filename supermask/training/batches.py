"""Batches of a data set on a device: which examples a step sees depends on (seed, step) alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from supermask.data import CropAndFlip, DataSet, Examples, Warp, draw_generator, epoch_order, step_generator
from supermask.data.augmentation import check_images
from supermask.data.batch import Batch
from supermask.errors import SupermaskError
from supermask.training.processes import ALONE, Processes
from supermask.training.recipe import Recipe

EVALUATION_BATCH = 1000
"""Fixed where results are compared: the last bits of a logit, and so a close race, may depend on it."""

TRAIN_EXAMPLES = 10_000
"""Training examples, at most, that a finished network is scored on: the standard error is half a point at most."""


class Source(Protocol):
    """Where the loop has its batches from.

    Attributes:
        name: of the data.
        steps: optimizer steps in all.
        per_epoch: optimizer steps of one epoch.
        weight: of the mean loss of a batch here, so that the losses' average over the processes is that of the batch.

    """

    name: str
    steps: int
    per_epoch: int
    weight: float

    def batch(self, step: int) -> Batch:
        """Return the batch of an optimizer step, counted from 0."""

    def first(self, count: int) -> Iterator[Any]:
        """Yield the inputs of so many training batches at most, for statistics."""

    def validation(self) -> Iterable[Any]:
        """Return the validation batches, over and over the same."""

    def ending(self) -> Mapping[str, Iterable[Any]]:
        """Read the test set, once; return the batches of the part "test" and, where it can be scored, of "train"."""

    def resumable(self) -> bool:
        """Return whether a run that goes on from here sees what it would have seen."""

    def state(self) -> dict[str, Any]:
        """Return what is to be kept besides the step, for a run that goes on."""

    def load(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on from a step and what `state` returned."""


class Batches:
    """The training batches of one run, step by step; the pixels are kept on the device as they are stored.

    Of several processes each gets its share of every batch.

    Attributes:
        per_epoch: optimizer steps of one epoch.
        weight: of the mean loss over this process's share, so that the losses' average over the processes is the mean
            over the batch.

    Raises:
        SupermaskError: a batch holds fewer examples than there are processes, or more than the data set, or inputs that
            are not images are to be augmented.

    """

    def __init__(
        self, data: DataSet, recipe: Recipe, *, seed: int, device: torch.device, processes: Processes = ALONE
    ) -> None:
        if recipe.batch_size < processes.size:
            raise SupermaskError(
                f"batch_size={recipe.batch_size} is smaller than the {processes.size} processes, which share each"
                " batch; give a larger batch or start fewer processes."
            )
        self._data, self._recipe, self._seed, self._processes = data, recipe, seed, processes
        self._share = processes.share(recipe.batch_size)
        self.name = data.name
        self.weight = processes.size * (self._share.stop - self._share.start) / recipe.batch_size
        self._augmentations: list[CropAndFlip | Warp] = []
        if recipe.augment:
            self._augmentations.append(CropAndFlip(recipe.padding, recipe.flips))
        if recipe.warp:
            self._augmentations.append(Warp(recipe.warp))
        if self._augmentations:
            check_images(data.train.images)
        self._examples = on_device(data.train, device)
        self.per_epoch, self.steps = recipe.steps_per_epoch(len(data.train)), recipe.steps(len(data.train))
        self._validation = Prepared(data, on_device(data.validation, device), recipe, processes)
        # no epoch has this number, so the first batch draws an order
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> Batch:
        """Return inputs, e.g. images float32 (share, C, H, W), and targets, e.g. labels int64 (share,), of a step."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            # moved to the device once for an epoch and not at every step
            order = epoch_order(len(self._examples), seed=self._seed, epoch=epoch)
            self._epoch, self._order = epoch, order.to(self._examples.labels.device)
        size = self._recipe.batch_size
        chosen = self._order[place * size : (place + 1) * size]
        # faster on a CPU than images[chosen], which copies pixel by pixel
        images, labels = self._examples.images.index_select(0, chosen), self._examples.labels[chosen]
        if self._augmentations:  # not before: a generator takes time in a step that needs none
            generator = step_generator(self._seed, step)
            for augmentation in self._augmentations:
                # of the whole batch: what is drawn for an example depends on its place there
                images = augmentation(images, generator=generator)
        images, labels = self._drawn(images, labels, step)
        return Batch(prepare(self._data, self._recipe, images[self._share]), labels[self._share])

    def validation(self) -> "Prepared":
        """Return the validation examples."""
        return self._validation

    def ending(self) -> Mapping[str, "Prepared"]:
        """Read the test set; return it, and the first training examples if they are not drawn at each step."""
        parts = {"test": self._data.test()}
        if self._data.draw is None:  # labels that are drawn at each step are not those of the stored examples
            train = self._data.train
            parts["train"] = Examples(train.images[:TRAIN_EXAMPLES], train.labels[:TRAIN_EXAMPLES])
        device = self._examples.labels.device
        return {
            name: Prepared(self._data, on_device(examples, device), self._recipe, self._processes)
            for name, examples in parts.items()
        }

    def resumable(self) -> bool:
        """Return True: what a step sees depends on its number."""
        return True

    def state(self) -> dict[str, Any]:
        """Return nothing: what a step sees depends on its number."""
        return {}

    def load(self, step: int, state: Mapping[str, Any]) -> None:
        """Do nothing, as `state` does."""

    def first(self, count: int) -> Iterator[Tensor]:
        """Yield this process's share of the first `count` training batches, whole, in stored order, not augmented.

        A task that draws its examples draws these too, so that statistics are those of what the network is trained on.
        """
        size, batches = self._recipe.batch_size, min(count, self.per_epoch)
        for start in range(0, batches * size, size)[self._processes.share(batches)]:
            images, labels = (part[start : start + size] for part in (self._examples.images, self._examples.labels))
            # steps are counted from 0, so that no step draws from the streams of negative numbers
            yield prepare(self._data, self._recipe, self._drawn(images, labels, -1 - start // size)[0])

    def _drawn(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return what the task makes of a batch.

        It comes after the augmentation: a flip after a quarter turn would be a turn the other way of the mirrored
        image, under the wrong label. It is of the whole batch, as the augmentation is.
        """
        if self._data.draw is None:
            return images, labels
        return self._data.draw(images, labels, draw_generator(self._seed, step))


@dataclass(frozen=True)
class Prepared:
    """Examples of a data set on a device, in batches ready for a network: this process's share of the batches.

    A batch is not divided: in a smaller one the last bits of a logit may differ, and with them who wins a close race.

    Attributes:
        batch: examples of one; the last may have fewer.

    """

    data: DataSet
    examples: Examples
    recipe: Recipe
    processes: Processes = ALONE
    batch: int = EVALUATION_BATCH

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs, e.g. images float32 (batch, C, H, W), and targets, e.g. labels int64 (batch,)."""
        starts = range(0, len(self.examples), self.batch)
        for start in starts[self.processes.share(len(starts))]:
            part = slice(start, start + self.batch)
            yield prepare(self.data, self.recipe, self.examples.images[part]), self.examples.labels[part]


def on_device(examples: Examples, device: torch.device) -> Examples:
    """Return the examples on a device."""
    return Examples(examples.images.to(device), examples.labels.to(device))


def prepare(data: DataSet, recipe: Recipe, images: Tensor) -> Tensor:
    """Return stored inputs as the network takes them."""
    images = data.normalize(images)
    return images.contiguous(memory_format=torch.channels_last) if recipe.channels_last and images.ndim == 4 else images
