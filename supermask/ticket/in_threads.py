"""The layers of a file are coded apart, and so can be at the same time: the coder's loops do without Python's lock."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_LARGE = 1 << 16  # entries of a mask, which take milliseconds; a thread takes a tenth of one to start

T = TypeVar("T")
R = TypeVar("R")


def threads_for(entries: Iterable[int]) -> int:
    """Return how many threads are worth while for masks with so many entries: torch's number, if as many are large."""
    return min(torch.get_num_threads(), sum(count >= _LARGE for count in entries))


def in_threads(function: Callable[[T], R], items: Sequence[T], threads: int) -> list[R]:
    """Return what the function makes of each item, in their order.

    Of several items that fail, the first raises, as without threads. After that, and after Ctrl-C, none is begun.
    """
    if threads < 2:
        return [function(item) for item in items]
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)
