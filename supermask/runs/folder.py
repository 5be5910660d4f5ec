"""The folder of a run: its settings, what it leaves behind and, once it is finished, its result."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from supermask.errors import RunError
from supermask.files import held, make_folder, read_json, remove_leftovers, write_json
from supermask.results import Made, Result
from supermask.training.loop import CHECKPOINT
from supermask.training.processes import ALONE, Processes

R = TypeVar("R", bound=Result)
STAGES = "stages"
"""Folder, in that of a run, of trainings that others follow."""


def recorded(
    kind: type[R],
    path: str | Path,
    config: Mapping[str, Any],
    measure: Callable[[Path], R],
    *,
    device: str = "cpu",
    resume: bool = False,
    processes: Processes = ALONE,
) -> R:
    """Return the result of a run: measured and written, or read where it is finished.

    Args:
        kind: of the result.
        path: the folder of the run.
        config: all that the run depends on, as it comes back from JSON.
        measure: carries out the run in the folder, and returns its result without `config` and `made`.
        device: that it is measured on.
        resume: go on where the folder holds an unfinished run; `measure` finds out how.
        processes: that measure together; the first one reads and writes the folder, and all return the same.

    Returns:
        What `measure` returned, with the config, and with what it was made with.

    Raises:
        RunError: the folder holds another run, or an unfinished one and resume is False, or another process fills it.
        SupermaskError: the folder cannot be written, or `measure` raised it.

    """
    folder, hold = RunFolder(Path(path)), ExitStack()

    def begin() -> R | None:
        hold.enter_context(held(make_folder(path)))
        RunFolder.open(path, config, resume=resume)
        return kind.from_json(folder.read_result()) if folder.finished else None

    def end(measured: R) -> R:
        made = Made.here(device, processes.size)
        folder.write_result(replace(measured, config=dict(config), made=made).to_json())
        # read back, so that a run returns the same values now and when it is read later
        return kind.from_json(folder.read_result())

    with hold:
        finished = processes.once(begin)
        if finished is not None:
            return finished
        measured = measure(folder.path)
        return processes.once(lambda: end(measured))


@dataclass(frozen=True)
class RunFolder:
    """A folder that one run may fill.

    Files: config.json (its settings), result.json (written last: a folder that has it is finished), and what the run
    itself leaves, a checkpoint while it is under way among it.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path, config: Mapping[str, Any], *, resume: bool) -> "RunFolder":
        """Make the folder or take up the one that is there.

        Raises:
            RunError: it holds another run, or an unfinished run and resume is False.
            SupermaskError: it cannot be written.

        """
        folder = cls(make_folder(path))
        if folder.finished or folder.begun:  # what a failed run left behind is nothing to keep
            _refuse_other(folder.path, read_json(folder.config), dict(config))
        else:
            write_json(folder.config, dict(config))
        if folder.begun and not (resume or folder.finished):
            raise RunError(f"{path} holds an unfinished run; add --resume to go on with it, or give another --out.")
        return folder

    @property
    def config(self) -> Path:
        """The file of the settings."""
        return self.path / "config.json"

    @property
    def checkpoint(self) -> Path:
        """The file of the run's state."""
        return self.path / CHECKPOINT

    @property
    def begun(self) -> bool:
        """Whether there is something to go on from."""
        return self.checkpoint.exists() or any(self.path.glob(f"{STAGES}/**/{CHECKPOINT}"))

    @property
    def finished(self) -> bool:
        """Whether the result is there."""
        return (self.path / "result.json").exists()

    def read_result(self) -> dict[str, Any]:
        """Return the result as plain values, as `Result.from_json` takes them."""
        result: dict[str, Any] = read_json(self.path / "result.json")
        return result

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write the result, which finishes the run, and drop the checkpoint."""
        # the result first: killed in between, the run is finished and only its checkpoint is left over
        write_json(self.path / "result.json", result)
        self.checkpoint.unlink(missing_ok=True)
        remove_leftovers(self.path)


def _refuse_other(path: Path, there: Any, asked: dict[str, Any]) -> None:
    if there == asked:
        return
    before, now = flat(there), flat(asked)
    changes = [
        f"{key} is {before.get(key)!r} there and {now.get(key)!r} now"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    raise RunError(f"{path} holds another run: {'; '.join(changes[:3])}; give another --out.")


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested plain values by the dotted names of their places, e.g. "recipe.epochs"."""
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, part in value.items():
        found |= flat(part, f"{prefix}.{key}" if prefix else key)
    return found
