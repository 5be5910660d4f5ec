"""What a data set is: examples with their targets in three parts; the test part is only read when asked for."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from supermask.errors import DataError

Draw = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]
"""Images uint8 (n, C, H, W), labels int64 (n,) and a generator, to the images and labels that a step trains on."""


IGNORED = -100
"""The label of a position that does not count, as in `torch.nn.functional.cross_entropy`."""


@dataclass(frozen=True, eq=False, repr=False)
class Examples:
    """Inputs with their targets.

    Attributes:
        images: uint8 (n, C, H, W), or other inputs (n, ...): floating, or integers such as token ids (n, T).
        labels: int64 (n,), or other targets (n, ...): int64 of positions (n, T), or floating.

    Raises:
        DataError: another dtype, no dimensions, uint8 that is not images, or not one target per input.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        for name, given in (("images", images), ("labels", labels)):
            if not isinstance(given, Tensor):
                raise DataError(
                    f"{name} are of type {type(given).__name__}; give tensors, e.g. by torch.as_tensor of an array."
                )
            if given.layout is not torch.strided:
                raise DataError(f"{name} are of layout {given.layout}; give dense tensors, e.g. by to_dense().")
        if images.dtype in (torch.bool, torch.complex64, torch.complex128) or images.ndim < 2:
            raise DataError(
                f"images are {_describe(images)}; they must be numbers of shape (n, ...), e.g. (n, C, H, W)."
            )
        if images.dtype == torch.uint8 and images.ndim != 4:
            raise DataError(
                f"images are {_describe(images)}; uint8 must be pixels of shape (n, C, H, W), token ids int64."
            )
        if not (labels.dtype == torch.int64 or labels.is_floating_point()) or labels.ndim < 1:
            raise DataError(
                f"labels are {_describe(labels)}; they must be int64 or floating of shape (n,) or (n, ...)."
            )
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images came with {len(labels)} labels; expected one label per image.")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        kind = "images" if self.images.dtype == torch.uint8 else "inputs"
        return f"Examples({len(self):,} {kind} of {'x'.join(map(str, self.images.shape[1:]))})"

    def select(self, indices: Tensor) -> "Examples":
        """Return copies of the examples at `indices`, int64 (m,), in that order."""
        return Examples(self.images[indices], self.labels[indices])


@dataclass
class Reads:
    """How often something was read."""

    count: int = 0


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set that is ready for training.

    Args:
        name: as `known()` lists it.
        classes: integer labels run from 0 to classes - 1, or are -100 where a position of (n, T) does not count; 0
            where targets are floating.
        input_shape: (C, H, W) of one image, or the shape of another input.
        scale: the stored value of a white pixel (255; 16 for digits).
        mean, std: per channel, of pixels / scale over the training set, before validation examples leave it. Empty
            where inputs go into the network as they are stored, floating ones as float32.
        train, validation: disjoint; validation may be empty.
        read_test: reads the test files; call `test()` instead, which counts.
        reads: counts the calls of `test()`, also through copies made by `dataclasses.replace`.
        files: a hash of the caller's own files that the parts are read from; empty where there are none.
        draw: makes the training examples of each step out of stored ones, after augmentation, for a task whose labels
            are drawn; `train` then holds what it starts from. None trains on the stored examples.

    Raises:
        DataError: a part does not fit input_shape or classes, or mean and std are not one per channel.
    """

    name: str
    classes: int
    input_shape: tuple[int, ...]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Examples
    validation: Examples
    read_test: Callable[[], Examples] = field(repr=False)
    reads: Reads = field(default_factory=Reads, repr=False)
    draw: Draw | None = field(default=None, repr=False)
    files: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        channels = self.input_shape[0] if self.mean or self.std or self.train.images.dtype == torch.uint8 else 0
        if not len(self.mean) == len(self.std) == channels or min(self.std, default=1.0) <= 0 or self.scale <= 0:
            raise DataError(
                f"{self.name} has mean {self.mean}, std {self.std} and scale {self.scale}; expected "
                f"{channels} means, {channels} positive deviations and a positive scale."
            )
        self._check("training", self.train)
        self._check("validation", self.validation)

    def test(self) -> Examples:
        """Read and return the test examples, from their files, at every call; `test_reads` counts the calls.

        Raises:
            DataError: a test file is damaged, or was removed since the data set was loaded.
        """
        self.reads.count += 1  # before the read: one that fails halfway has looked at the test set too
        examples = self.read_test()
        self._check("test", examples)
        tokens = self.vocabulary
        if tokens is not None and examples.images.numel() and not 0 <= int(examples.images.max()) < tokens:
            raise DataError(f"A test example of {self.name} has the token {int(examples.images.max())} of {tokens}.")
        return examples

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the training and validation examples, and of `files`: by it a run knows its data again."""
        digest = hashlib.sha256(self.files.encode())
        for part in (self.train.images, self.train.labels, self.validation.images, self.validation.labels):
            digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def test_reads(self) -> int:
        """How often the test set was read: 0 until the end of a run, 1 after it."""
        return self.reads.count

    @property
    def outputs(self) -> int:
        """How many numbers a network gives for an example, or for each position: the classes, or floating targets."""
        return self.classes or math.prod(self.train.labels.shape[1:])

    @property
    def vocabulary(self) -> int | None:
        """How many tokens there are; None where inputs are not token ids (n, T).

        They are the classes where every position has a label, or as many as the largest id says.
        """
        parts = [self.train.images, self.validation.images]
        if self.mean or self.train.images.is_floating_point() or self.train.images.ndim != 2:
            return None
        largest = max(int(part.max()) for part in parts if part.numel())
        return max(largest + 1, self.classes if self.train.labels.ndim == 2 else 0)

    def normalize(self, images: Tensor) -> Tensor:
        """Return (images / scale - mean) / std per channel: float32 (n, C, H, W) on the images' device.

        Without mean and std floating inputs are float32, and integers int64, which embeddings take.

        Raises:
            DataError: the images are not (n, C, H, W) with the C of this set.
        """
        if not self.mean:
            return images.to(torch.float32 if images.is_floating_point() else torch.int64)
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise DataError(f"images are {_describe(images)}; {self.name} has (n, {len(self.mean)}, H, W).")
        mean, std = _per_channel(self.mean, images.device), _per_channel(self.std, images.device)
        # in place in one copy: fresh memory takes longer than the arithmetic
        return images.to(torch.float32, copy=True).div_(self.scale).sub_(mean).div_(std)

    def raw(self) -> "DataSet":
        """Return the set with pixels in [0, 1] for a network that takes them so: `normalize` then only scales."""
        channels = len(self.mean)
        return replace(self, mean=(0.0,) * channels, std=(1.0,) * channels)

    def _check(self, part: str, examples: Examples) -> None:
        if tuple(examples.images.shape[1:]) != self.input_shape:
            shape = tuple(examples.images.shape[1:])
            raise DataError(f"{part} images of {self.name} are {shape}; expected {self.input_shape}.")
        labels = examples.labels
        if labels.is_floating_point():
            if self.classes:
                raise DataError(f"{part} targets of {self.name} are {_describe(labels)}; give classes=0 with them.")
            return
        labels = labels if labels.ndim == 1 else labels[labels != IGNORED]
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            span = f"{int(labels.min())} to {int(labels.max())}"
            raise DataError(f"{part} labels of {self.name} run from {span}; expected 0 to {self.classes - 1}.")


@lru_cache(maxsize=64)  # two for each data set and device: a copy to a GPU makes the host wait
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return float32 (C, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(-1, 1, 1)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
