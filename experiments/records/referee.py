"""The referee: each file is evaluated by the command in a fresh process, and compared with what its record says."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.records.better import LEVEL, p_better
from experiments.records.record import LEAST, Entry, Record, of_tier, sha256
from supermask.errors import SupermaskError
from supermask.files import read_json
from supermask.training.evaluation import Score

CLOSE = 2
"""Test images that may come out otherwise: where two logits differ in their last bits, machines do not agree."""

Evaluate = Callable[[Path, str], Score]
"""Returns the test score of a file on a data set."""


def evaluated(file: Path, data: str) -> Score:
    """Return the test score that `supermask evaluate FILE` finds in a fresh process.

    Raises:
        SupermaskError: the command fails.

    """
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "supermask", "evaluate", str(file), "--data", data, "--out", out]
        done = subprocess.run([*command, "--device", "cpu", "--threads", "1"], capture_output=True, text=True)
        if done.returncode:
            raise SupermaskError(f"supermask evaluate {file} fails: {done.stderr.strip()}")
        found = read_json(Path(out, "evaluation.json"))
    return Score(found["correct"], found["total"], found["loss"])


def check_files(record: Record, folder: Path, evaluate: Evaluate = evaluated) -> None:
    """Hold the files of a record against what it says of them.

    Raises:
        SupermaskError: a file has other bytes, or too many, or another error.

    """
    if len({each.seed for each in record.kept}) < LEAST or len({each.sha256 for each in record.kept}) < LEAST:
        raise SupermaskError(f"{folder.name} has fewer than {LEAST} files of different seeds.")
    for each in record.kept:
        path = folder / each.file
        if not path.is_file() or (path.stat().st_size, sha256(path)) != (each.bytes, each.sha256):
            raise SupermaskError(f"{path} is not the file of {each.bytes:,} bytes that its record is of.")
        if each.bytes > record.tier:
            raise SupermaskError(f"{path} has {each.bytes:,} bytes; its tier has at most {record.tier:,}.")
        found = evaluate(path, record.data)
        differ = None if found.correct is None or each.test.correct is None else abs(found.correct - each.test.correct)
        if found.total != each.test.total or differ is None or differ > CLOSE:
            raise SupermaskError(
                f"{path} has {found.correct} of {found.total} test examples right; its record says"
                f" {each.test.correct} of {each.test.total}."
            )


def check_chain(entries: Sequence[Entry], entry: Entry) -> None:
    """Hold an entry against the one that it says it beat.

    Raises:
        SupermaskError: that one was changed, or is another one, or was not beaten.

    """
    before, follows = of_tier(entries, entry.record.data, entry.record.tier), entry.record.follows
    place = [each.name for each in before].index(entry.name)
    if place == 0 and follows is None:
        return
    last = before[place - 1] if place else None
    if follows is None or last is None or (follows.name, follows.sha256) != (last.name, last.sha256):
        raise SupermaskError(f"{entry.name} does not follow the record before it as that is now; records never change.")
    p = p_better(entry.record.errors, last.record.errors, entry.record.image)
    if not p < LEVEL:
        raise SupermaskError(f"{entry.name} does not beat {last.name}: p = {p:.2g}, and it takes less than {LEVEL}.")
