"""Metrics as JSON lines: one record per evaluation."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from supermask.files import write_whole


def write_metrics(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write the records, whole or not at all: a run that goes on from a checkpoint leaves no line twice."""
    write_whole(path, "".join(json.dumps(record) + "\n" for record in records).encode())
