"""Batches of the caller's data loaders, step by step."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from supermask.data.batch import Batch, batch_of, mapped
from supermask.data.loaders import Loaders
from supermask.errors import SupermaskError
from supermask.training.processes import Processes
from supermask.training.recipe import Recipe


class LoaderBatches:
    """The training batches of one run, in the order that a loader yields them; see `batches.Source`.

    The order is the loader's own. One that draws it from torch's generators, as a shuffling `DataLoader` does, draws it
    from the seed of the training, and goes on at the start of an epoch as if it had not been interrupted.

    Raises:
        SupermaskError: the recipe asks for what is the loader's to do, or the loader has no length where one is needed.

    """

    weight = 1.0

    def __init__(self, data: Loaders, recipe: Recipe, *, device: torch.device, processes: Processes) -> None:
        if not processes.alone:
            raise SupermaskError(
                f"{processes.size} processes cannot share the batches of a data loader, whose order they do not know;"
                " train in one process, or give a DataSet."
            )
        if recipe.augment or recipe.warp:
            asked = "augment=True" if recipe.augment else f"warp={recipe.warp:g}"
            raise SupermaskError(f"{asked} changes stored images; a data loader augments by itself, so leave it out.")
        self.name, self._data, self._device, self._channels_last = data.name, data, device, recipe.channels_last
        self._length = data.steps_per_epoch
        if self._length == 0:
            raise SupermaskError("The training loader has no batches.")
        if self._length is None and (recipe.iterations is None or not recipe.evaluate_every):
            raise SupermaskError(
                "The training loader has no length, so that it has no epochs; give the recipe iterations= and"
                " evaluate_every=, in optimizer steps."
            )
        self.per_epoch = self._length or recipe.evaluate_every
        self.steps = recipe.epochs * self.per_epoch if recipe.iterations is None else recipe.iterations
        self._under_way: Iterator[Any] | None = None

    def batch(self, step: int) -> Batch:
        """Return the next batch, whatever the step's number."""
        if self._under_way is None:
            self._under_way = iter(self._data.train)
        try:
            given = next(self._under_way)
        except StopIteration:
            self._under_way = iter(self._data.train)
            given = next(self._under_way, None)
            if given is None:
                raise SupermaskError("The training loader yields no batches.") from None
        if self._length is not None and (step + 1) % self._length == 0:
            self._under_way = None  # the next epoch is drawn when it begins
        return self._prepared(given)

    def first(self, count: int) -> Iterator[Any]:
        """Yield the inputs of the first batches of a pass of its own through the training loader."""
        if self._under_way is not None and getattr(self._data.train, "persistent_workers", False):
            raise SupermaskError(
                "A training loader with persistent_workers=True cannot begin a second pass within an epoch, which the"
                " statistics of batch norm need; evaluate at the end of epochs (evaluate_every=0)."
            )
        return (self._prepared(given).inputs for given in islice(self._data.train, count))

    def validation(self) -> Iterable[Batch]:
        """Return the validation batches."""
        return self._part(self._data.validation)

    def ending(self) -> Mapping[str, Iterable[Batch]]:
        """Return the test batches; training batches may be augmented and are not scored."""
        return {"test": self._part(self._data.test)}

    def resumable(self) -> bool:
        """Return whether an epoch is about to begin: where a loader is within one cannot be kept."""
        return self._under_way is None

    def state(self) -> dict[str, Any]:
        """Return the states of the generators that the loader has of its own."""
        return {name: generator.get_state() for name, generator in self._generators().items()}

    def load(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on at the start of an epoch."""
        self._under_way = None
        for name, generator in self._generators().items():
            if name in state:
                generator.set_state(state[name])

    def _generators(self) -> dict[str, torch.Generator]:
        loader = self._data.train
        owners = {"loader": loader, "sampler": getattr(loader, "sampler", None)}
        found = {name: getattr(owner, "generator", None) for name, owner in owners.items()}
        return {name: each for name, each in found.items() if isinstance(each, torch.Generator)}

    def _part(self, part: Iterable[Any] | None) -> "_Part":
        return _Part(self, part if part is not None else ())

    def _prepared(self, given: Any) -> Batch:
        inputs, targets = batch_of(given)
        return Batch(mapped(inputs, self._placed), mapped(targets, lambda tensor: tensor.to(self._device)))

    def _placed(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self._device)
        images = self._channels_last and tensor.ndim == 4
        return tensor.contiguous(memory_format=torch.channels_last) if images else tensor


class _Part:
    """A part of the data, whose batches lie on the device when they are yielded."""

    def __init__(self, source: LoaderBatches, part: Iterable[Any]) -> None:
        self._source, self._part = source, part

    def __iter__(self) -> Iterator[Batch]:
        return map(self._source._prepared, self._part)
