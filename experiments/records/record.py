"""One entry of the board: the files of several seeds, and what they were measured with."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.errors import SupermaskError
from supermask.files import read_json, refuse_no_folder
from supermask.report import Mean, mean
from supermask.results import Result
from supermask.training.result import Scored

ENTRIES = Path(__file__).with_name("entries")
RECORD = "record.json"
LEAST = 3
"""Seeds that an entry has at least: with fewer there is no test over seeds."""


@dataclass(frozen=True)
class Kept:
    """The file of one seed.

    Attributes:
        seed: of the run.
        file: beside the record.
        bytes: of the whole file.
        sha256: of its bytes, 64 hexadecimal digits.
        validation: score of the step that the validation split chose.
        test: its score on the test set, read once.

    """

    seed: int
    file: str
    bytes: int
    sha256: str
    validation: Scored
    test: Scored


@dataclass(frozen=True)
class Follows:
    """The record of the same tier that an entry had to beat.

    Attributes:
        name: of its folder.
        sha256: of its record.json, so that nobody changes it later without being seen.
        p: of the test that the entry is better.

    """

    name: str
    sha256: str
    p: float


@dataclass(frozen=True, kw_only=True)
class Record(Result):
    """An entry of the board; `config` is that of its runs without their seeds, `made` that of the first.

    Attributes:
        data: name of the data set.
        tier: bytes that each file has at most.
        kept: the file of each seed.
        command: that made them, as it was typed.
        date: of the entry, year-month-day.
        follows: the record before it; None for the first of a tier.

    """

    data: str
    tier: int
    kept: tuple[Kept, ...]
    command: str
    date: str
    follows: Follows | None = None

    @property
    def bytes(self) -> int:
        """Of the largest file."""
        return max(each.bytes for each in self.kept)

    @property
    def errors(self) -> list[float]:
        """Test error of each seed, as fractions."""
        return [1.0 - each.test.accuracy for each in self.kept]

    @property
    def error(self) -> Mean:
        """Mean test error over the seeds, a fraction."""
        return mean(self.errors)

    @property
    def validation_error(self) -> Mean:
        """The same of the validation split."""
        return mean([1.0 - each.validation.accuracy for each in self.kept])

    @property
    def image(self) -> float:
        """One test image as a fraction of them."""
        return 1.0 / self.kept[0].test.total


@dataclass(frozen=True)
class Entry:
    """A record in its folder."""

    folder: Path
    record: Record

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def sha256(self) -> str:
        """Of its record.json."""
        return sha256(self.folder / RECORD)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entry_name(data: str, tier: int, number: int) -> str:
    """Return the name of the folder of a tier's entry; the first has number 1."""
    return f"{data}-{tier}-{number}"


def read_entries(folder: Path = ENTRIES) -> list[Entry]:
    """Return all entries: those of a tier from the first to the last.

    Raises:
        SupermaskError: it is no folder, or one in it does not hold a record, or numbers of a tier are missing.

    """
    refuse_no_folder("--entries", folder)
    paths = sorted((path for path in folder.glob("*") if path.is_dir()), key=_key)
    found = [Entry(path, _read(path)) for path in paths]
    for tier in dict.fromkeys((entry.record.data, entry.record.tier) for entry in found):
        names = [each.name for each in of_tier(found, *tier)]
        if names != [entry_name(*tier, number) for number in range(1, len(names) + 1)]:
            raise SupermaskError(f"The entries of a tier are numbered from 1 on, and these are {', '.join(names)}.")
    return found


def of_tier(entries: Sequence[Entry], data: str, tier: int) -> list[Entry]:
    """Return the entries of a tier, from the first to the last, which is its record."""
    return [entry for entry in entries if (entry.record.data, entry.record.tier) == (data, tier)]


def _key(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"-", path.name)]


def _read(path: Path) -> Record:
    try:
        return Record.from_json(read_json(path / RECORD))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SupermaskError(f"{path / RECORD} is not a record ({error!r}).") from None
