"""The folder of a run: its job, its surroundings, its metrics and, once it is finished, its result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermask.errors import RunError
from supermask.files import make_folder, read_json, write_json
from supermask.runs.job import Job
from supermask.training.loop import CHECKPOINT


@dataclass(frozen=True)
class RunFolder:
    """A folder that one job may fill.

    Files: config.json (the job), metrics.jsonl (one record per evaluation), network.ticket and scores.safetensors of a
    search or network.safetensors of a dense network, result.json (written last: a folder that has it is finished), and
    the checkpoint while the run is under way.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path, job: Job, *, resume: bool) -> "RunFolder":
        """Make the folder or take up the one that is there.

        Raises:
            RunError: it holds another job, or an unfinished run and resume is False.
            SupermaskError: it cannot be written.

        """
        folder = cls(make_folder(path))
        if folder.finished or folder.checkpoint.exists():  # what a failed run left behind is nothing to keep
            _refuse_other_job(folder.path, read_json(folder.config), job.config())
        else:
            write_json(folder.config, job.config())
        if folder.checkpoint.exists() and not (resume or folder.finished):
            raise RunError(f"{path} holds an unfinished run; add --resume to go on with it, or give another --out.")
        return folder

    @property
    def config(self) -> Path:
        """The file of the job."""
        return self.path / "config.json"

    @property
    def checkpoint(self) -> Path:
        """The file of the run's state."""
        return self.path / CHECKPOINT

    @property
    def finished(self) -> bool:
        """Whether the result is there."""
        return (self.path / "result.json").exists()

    def read_result(self) -> dict[str, Any]:
        """Return the result as plain values."""
        result: dict[str, Any] = read_json(self.path / "result.json")
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Write the result, which finishes the run, and drop the checkpoint."""
        write_json(self.path / "result.json", result)
        self.checkpoint.unlink(missing_ok=True)
        for half in self.path.glob(f".{CHECKPOINT}.*"):  # of a process that was killed while it wrote
            half.unlink()


def _refuse_other_job(path: Path, there: Any, asked: dict[str, Any]) -> None:
    if there == asked:
        return
    before, now = _flat(there), _flat(asked)
    changes = [
        f"{key} is {before.get(key)!r} there and {now.get(key)!r} now"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    raise RunError(f"{path} holds another run: {'; '.join(changes[:3])}; give another --out.")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= _flat(part, f"{prefix}.{key}" if prefix else key)
    return flat
