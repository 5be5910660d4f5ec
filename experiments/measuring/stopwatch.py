"""Times of single steps, on a CPU or a GPU, and of whole runs; the memory bandwidth that steps are held against."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

_COPIED = 1 << 28
"""Bytes of the tensor that is copied: far more than the caches hold."""


def use_all_cores() -> int:
    """Let PyTorch use every core, which the worker of an experiment does not; return their number."""
    torch.set_num_threads(os.cpu_count() or 1)
    return torch.get_num_threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread, and as many as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Elapsed:
    """Seconds on the clock of the wall, and those that all threads of the process computed."""

    wall_seconds: float
    cpu_seconds: float


class Clock:
    """A clock that runs from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Elapsed:
        """Return the time since then, to the millisecond."""
        return Elapsed(round(time.perf_counter() - self._wall, 3), round(time.process_time() - self._cpu, 3))


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes, to the microsecond.

    A GPU is idle before and after: what was asked for before would hide the time that it takes to launch `work`.
    """
    if device.type == "cuda":
        return round(_on_gpu(work, device), 3)
    began = time.perf_counter()
    work()
    return round(1000 * (time.perf_counter() - began), 3)


def _on_gpu(work: Callable[[], object], device: torch.device) -> float:
    with torch.cuda.device(device):
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        began.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        return began.elapsed_time(ended)


def bandwidth(device: torch.device, size: int = _COPIED, repeats: int = 9) -> float:
    """Return the bytes per second that a copy reads and writes together, the median of the repeats.

    Args:
        device: whose memory.
        size: bytes that are copied.
        repeats: how often, after one copy that is not timed.

    """
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    times = [milliseconds(lambda: target.copy_(source), device) for _ in range(repeats + 1)]
    return float(2 * size / (np.median(times[1:]) / 1000))
