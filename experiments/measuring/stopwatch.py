"""Times of single steps on a CPU or a GPU, and the memory bandwidth that they are held against."""

import os
import time
from collections.abc import Callable

import numpy as np
import torch

_COPIED = 1 << 28
"""Bytes of the tensor that is copied: far more than the caches hold."""


def use_all_cores() -> int:
    """Let PyTorch use every core, which the worker of an experiment does not; return their number."""
    torch.set_num_threads(os.cpu_count() or 1)
    return torch.get_num_threads()


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
