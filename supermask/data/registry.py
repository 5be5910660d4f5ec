"""Every data set by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from supermask.data.data_set import DataSet
from supermask.data.digits import read_digits
from supermask.data.folder import data_folder
from supermask.data.split import hold_out
from supermask.data.synthetic import read_synthetic
from supermask.data.vision import read_vision
from supermask.data.vision_sets import CIFAR10, CIFAR100, FASHION_MNIST, MNIST, VisionSet
from supermask.errors import DataError


@dataclass(frozen=True)
class Source:
    """How a set is read, given the `folder` argument of `load`, and how many examples validate by default."""

    read: Callable[[str | Path | None], DataSet]
    validation: int


def _vision(facts: VisionSet) -> Source:
    return Source(lambda folder: read_vision(facts, data_folder(folder)), validation=5000)


# digits and synthetic have no files, so a folder that does not exist is no reason to refuse them
_SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "digits": Source(lambda folder: read_digits(), validation=144),
        "synthetic": Source(lambda folder: read_synthetic(), validation=100),
    }
    | {facts.name: _vision(facts) for facts in (MNIST, FASHION_MNIST, CIFAR10, CIFAR100)}
)


def known() -> tuple[str, ...]:
    """Return the names that `load` takes."""
    return tuple(_SOURCES)


def load(name: str, *, folder: str | Path | None = None, validation: int | None = None, seed: int = 0) -> DataSet:
    """Read a data set's training files and hold out its validation part; the test files are only looked for.

    Args:
        name: one of `known()`.
        folder: holds the files as torchvision lays them out; else the environment's SUPERMASK_DATA, else
            ./data. Missing files are downloaded into it if that is possible. digits and synthetic need none.
        validation: examples held out of the training set; 5,000 by default (digits 144, synthetic 100).
        seed: draws the validation part and nothing else.

    Raises:
        DataError: the name is unknown, a file is missing or damaged, or validation does not fit.
        SupermaskError: torchvision is needed and cannot be imported.
    """
    if name not in _SOURCES:
        raise DataError(f"There is no data set {name!r}; known are {', '.join(known())}.")
    source = _SOURCES[name]
    return hold_out(source.read(folder), source.validation if validation is None else validation, seed=seed)
