"""Batches that the caller makes: PyTorch's data loaders, or anything else that yields batches again and again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from supermask.errors import DataError


@dataclass(frozen=True, eq=False)
class Loaders:
    """The parts of a data set as iterables of batches, e.g. `torch.utils.data.DataLoader`s.

    A batch is (inputs, targets), a dictionary with its targets under "labels" (or "label", "targets", "target"), or
    several inputs and the targets last.

    Attributes:
        train: yields an epoch each time that it is iterated; its order and its augmentation are its own.
        validation: chooses the best step; None takes the last step.
        test: iterated at the end only; None leaves the test score without examples.
        name: of the data.

    Raises:
        DataError: a part cannot be iterated again.

    """

    train: Iterable[Any]
    validation: Iterable[Any] | None = None
    test: Iterable[Any] | None = None
    name: str = "loaders"

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            given = getattr(self, part)
            if given is None and part != "train":
                continue
            if not isinstance(given, Iterable) or isinstance(given, Iterator):
                raise DataError(
                    f"{part} is a {type(given).__name__}, which cannot be iterated again and again; give a"
                    " DataLoader or a list of batches."
                )

    @property
    def steps_per_epoch(self) -> int | None:
        """How many batches an epoch has; None where the training loader has no length."""
        try:
            return len(self.train)  # type: ignore[arg-type]
        except TypeError:
            return None
