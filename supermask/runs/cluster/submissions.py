"""Which runs of a sweep are in other hands: a file that the next command reads."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.errors import RunError
from supermask.files import read_json, write_json

if TYPE_CHECKING:
    import submitit


class Submissions:
    """The runs that were submitted and whose end was not yet seen, in the file submitted.json of a sweep."""

    def __init__(self, out: Path) -> None:
        self._path = out / "submitted.json"
        self._entries: dict[str, dict[str, str]] = read_json(self._path) if self._path.exists() else {}

    def jobs(self) -> Mapping[str, "submitit.Job[Any]"]:
        """Return the job of each run by the run's name.

        Raises:
            RunError: processes of this machine were left behind and still work on some of them.

        """
        left = [entry["job"] for entry in self._entries.values() if _works(entry)]
        if left:
            raise RunError(
                f"Runs of a command that was killed still go on in {self._path.parent}; wait for them, or end them: "
                f"kill {' '.join(left)}."
            )
        return {name: _job(entry) for name, entry in self._entries.items()}

    def add(self, cluster: str, jobs: Mapping[str, "submitit.Job[Any]"]) -> None:
        """Note that runs were submitted."""
        for name, job in jobs.items():
            self._entries[name] = {"cluster": cluster, "job": job.job_id, "logs": str(job.paths.folder)}
        write_json(self._path, self._entries)

    def forget(self, names: list[str]) -> None:
        """Note that the end of runs was seen."""
        for name in names:
            self._entries.pop(name, None)
        write_json(self._path, self._entries)


def _job(entry: Mapping[str, str]) -> "submitit.Job[Any]":
    import submitit

    kind = submitit.SlurmJob if entry["cluster"] == "slurm" else submitit.LocalJob
    return kind(entry["logs"], entry["job"])


def _works(entry: Mapping[str, str]) -> bool:
    """Whether a process of this machine still works on a run; its number may by now be another's."""
    if entry["cluster"] == "slurm":
        return False
    try:
        command = Path(f"/proc/{entry['job']}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(entry["logs"]) in command
