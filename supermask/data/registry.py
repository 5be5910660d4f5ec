"""Every data set by name. A new one is a file that reads it, and a line in `DATA_SETS`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from supermask.data.data_set import DataSet
from supermask.data.digits import read_digits
from supermask.data.folder import data_folder
from supermask.data.own import OWN_HINT, is_own, read_own
from supermask.data.source_text import read_source_text
from supermask.data.split import hold_out
from supermask.data.synthetic import read_synthetic
from supermask.data.vision import CIFAR10, CIFAR100, FASHION_MNIST, MNIST, VisionSet
from supermask.errors import DataError
from supermask.shown import quoted


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        read: returns the set with an empty validation part, given the `folder` argument of `load`.
        validation: how many training examples validate by default.

    """

    read: Callable[[str | Path | None], DataSet]
    validation: int


def _vision(facts: VisionSet) -> Source:
    # as many as Frankle & Carbin 2019 hold out of MNIST (appendix G)
    return Source(lambda folder: facts.read(data_folder(folder)), validation=5000)


DATA_SETS: Mapping[str, Source] = MappingProxyType(
    {
        # these three have no files, so a folder that does not exist is not a reason to refuse them
        # all validate with a tenth of their training examples
        "digits": Source(lambda folder: read_digits(), validation=144),
        "source_text": Source(lambda folder: read_source_text(), validation=1600),
        "synthetic": Source(lambda folder: read_synthetic(), validation=100),
        "mnist": _vision(MNIST),
        "fashion_mnist": _vision(FASHION_MNIST),
        "cifar10": _vision(CIFAR10),
        "cifar100": _vision(CIFAR100),
    }
)
"""Name to source; every list of data sets is read from here, by `known`."""


def known() -> tuple[str, ...]:
    """Return the names that `load` takes."""
    return tuple(DATA_SETS)


def load(name: str, *, folder: str | Path | None = None, validation: int | None = None, seed: int = 0) -> DataSet:
    """Read a data set's training files and hold out its validation part.

    The test files are compared with their checksums but not decoded: `DataSet.test` reads them.

    Args:
        name: one of `known()`; `folder:PATH` (images, `?size=32` brings them to one size), `npz:FILE` (arrays) or
            `text:FILE` (characters, `?context=64` of a window); or `package.module:factory`, code that is imported and
            called, or a name that a package registers in the group of entry points "supermask.data".
        folder: holds the files as torchvision lays them out; else the environment's SUPERMASK_DATA, else
            ./data. Missing files are downloaded into it if that is possible. digits, source_text and synthetic need
            none.
        validation: examples held out of the training set; 5,000 by default (digits 144, source_text 1,600,
            synthetic 100), of the caller's own a tenth, or the validation part that they bring.
        seed: draws the validation part and nothing else.

    Raises:
        DataError: the name is unknown, a file is missing or damaged, or validation does not fit.
        SupermaskError: torchvision is needed for a download and cannot be imported.
    """
    if name not in DATA_SETS:
        if not is_own(name):
            raise DataError(f"There is no data set {quoted(name)}; known are {', '.join(known())}, and {OWN_HINT}.")
        return _held_out(read_own(name, folder), validation, seed)
    source = DATA_SETS[name]
    data = source.read(folder)
    return hold_out(data, source.validation if validation is None else validation, seed=seed)


def _held_out(data: DataSet, validation: int | None, seed: int) -> DataSet:
    if not len(data.validation):
        return hold_out(data, len(data.train) // 10 if validation is None else validation, seed=seed)
    if validation:
        raise DataError(f"{data.name} brings {len(data.validation)} validation examples; leave out the number of them.")
    return data
