"""Torch's one generator for all threads: a training draws from it, so that one thread trains at a time."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from supermask.errors import SupermaskError

_DRAWING = threading.RLock()  # one thread may train within a training, as a listener does


@contextmanager
def own_random_state(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Context with a random state of its own; the caller's goes on after it as if nothing had been drawn.

    Dropout, data loaders and initialisers draw from torch's global generator, whose state two threads would mix.

    Args:
        devices: GPUs whose generators are saved too.

    Raises:
        SupermaskError: another thread is in such a context.

    """
    if not _DRAWING.acquire(blocking=False):
        raise SupermaskError(
            "Another thread of this process trains, and torch has one random generator for all threads; train in one"
            " thread after another, or in several processes."
        )
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        _DRAWING.release()
