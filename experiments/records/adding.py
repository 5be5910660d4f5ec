"""A new entry, from finished runs of `supermask search`."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from experiments.records.better import LEVEL, p_better
from experiments.records.record import (
    ENTRIES,
    LEAST,
    RECORD,
    Entry,
    Follows,
    Kept,
    Record,
    entry_name,
    of_tier,
    read_entries,
    sha256,
)
from experiments.records.referee import Evaluate, check_files, evaluated
from experiments.records.tiers import TIERS
from supermask.errors import SupermaskError
from supermask.files import make_folder, write_json, write_whole
from supermask.runs import JobResult, RunFolder
from supermask.runs.run_job import TICKET

_SEEDS = ("seed", "split_seed", "order_seed")


def finished(runs: Path) -> list[tuple[Path, JobResult]]:
    """Return the folders of the finished runs in a folder, with their results, by seed.

    Raises:
        SupermaskError: there are none, or one is not of a search.

    """
    paths = sorted(path for path in runs.glob("*") if RunFolder(path).finished)
    try:
        found = [(path, JobResult.from_json(RunFolder(path).read_result())) for path in paths]
    except (LookupError, TypeError, ValueError) as error:
        raise SupermaskError(f"{runs} holds other runs than those of supermask search ({error!r}).") from None
    if not found:
        raise SupermaskError(f"{runs} holds no finished run; give the folder whose folders are runs.")
    return sorted(found, key=lambda pair: pair[1].config["seed"])


def record_of(runs: Path, tier: int, command: str) -> Record:
    """Return the record that finished runs make, which follows none yet.

    Raises:
        SupermaskError: they are too few, of several settings, of no tier, or their files are not tickets of its size.

    """
    found = finished(runs)
    configs = [_seedless(result) for _, result in found]
    if any(config != configs[0] for config in configs):
        raise SupermaskError(f"The runs in {runs} differ in more than their seeds; an entry is of one setting.")
    data = str(configs[0]["data"])
    if tier not in TIERS.get(data, ()):
        known = "; ".join(f"{name}: {', '.join(f'{size:,}' for size in sizes)}" for name, sizes in TIERS.items())
        raise SupermaskError(f"There is no tier of {tier:,} bytes for {data}; the tiers are {known}.")
    if len({result.config["seed"] for _, result in found}) < max(LEAST, len(found)):
        raise SupermaskError(f"{runs} has {len(found)} runs; an entry is of at least {LEAST} different seeds.")
    for path, result in found:
        if result.file != TICKET:
            raise SupermaskError(f"{path} kept {result.file}, not a ticket that is all of its network.")
        if result.bytes > tier:
            raise SupermaskError(f"The ticket in {path} has {result.bytes:,} bytes; the tier has {tier:,} at most.")
    return Record(
        config=configs[0],
        made=found[0][1].made,
        data=data,
        tier=tier,
        kept=tuple(_kept(path / TICKET, result) for path, result in found),
        command=command,
        date=date.today().isoformat(),
    )


def add(
    runs: Path, tier: int, command: str, *, entries: Path = ENTRIES, evaluate: Evaluate = evaluated
) -> tuple[Entry, float | None]:
    """Append an entry of finished runs to the board; return it with its p-value over the last record.

    Args:
        runs: folder of the folders of `supermask search --out`.
        tier: bytes.
        command: that made them, as it was typed.
        entries: folder of the board.
        evaluate: the referee's evaluation of a file.

    Raises:
        SupermaskError: the runs make no entry, the referee does not agree, or the last record is not beaten.

    """
    record = record_of(runs, tier, command)
    before = of_tier(read_entries(entries), record.data, tier)
    if before:
        record = replace(record, follows=_beaten(record, before[-1]))
    folder = entries / entry_name(record.data, tier, len(before) + 1)
    if folder.exists():
        raise SupermaskError(f"{folder} is there already; entries are only added.")
    make_folder(folder)
    try:
        for kept, (path, _) in zip(record.kept, finished(runs), strict=True):
            write_whole(folder / kept.file, (path / TICKET).read_bytes())
        check_files(record, folder, evaluate)
        write_json(folder / RECORD, record.to_json())
    except BaseException:
        shutil.rmtree(folder)  # all or nothing
        raise
    return Entry(folder, record), None if record.follows is None else record.follows.p


def _beaten(record: Record, last: Entry) -> Follows:
    p = p_better(record.errors, last.record.errors, record.image)
    if not p < LEVEL:
        raise SupermaskError(
            f"The runs have {record.error.percent()}, which does not beat the {last.record.error.percent()} of"
            f" {last.name}: p = {p:.2g}, and a record takes less than {LEVEL}."
        )
    return Follows(last.name, last.sha256, p)


def _kept(path: Path, result: JobResult) -> Kept:
    seed = result.config["seed"]
    return Kept(seed, f"{seed}.ticket", path.stat().st_size, sha256(path), result.validation, result.test)


def _seedless(result: JobResult) -> dict[str, Any]:
    return {key: value for key, value in result.config.items() if key not in _SEEDS}
