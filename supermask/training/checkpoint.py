"""Checkpoints: the whole state of a run in one file, which is either sound or refused."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from supermask.errors import RunError, SupermaskError
from supermask.files import write_whole

_DIGEST = hashlib.sha256


def check_seconds(checkpoint_seconds: float) -> None:
    """Refuse a time between checkpoints that is none.

    Raises:
        SupermaskError: it is negative, or NaN, after which no checkpoint would be due.

    """
    if not checkpoint_seconds >= 0.0:
        raise SupermaskError(f"checkpoint_seconds={checkpoint_seconds} is out of range; give seconds, 0 or more.")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of plain values and tensors, followed by its SHA-256, whole or not at all."""
    # in memory first, because the digest is over all bytes of the state
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    write_whole(path, data + _DIGEST(data).digest())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state in a checkpoint, its tensors on the CPU.

    Raises:
        RunError: the file is missing or damaged.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"Cannot read the checkpoint {path}: {error.strerror}.") from None
    size = _DIGEST().digest_size
    # before torch reads any of it, so that damage is told as damage and not as some error of the format
    if _DIGEST(data[:-size]).digest() != data[-size:]:
        raise RunError(f"The checkpoint {path} is damaged; delete it to start the run again.")
    # weights_only: tensors and plain values, no code
    state: dict[str, Any] = torch.load(io.BytesIO(data[:-size]), map_location="cpu", weights_only=True)
    return state
