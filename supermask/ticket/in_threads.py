"""The layers of a file are coded apart, and so can be at the same time: the coder's loops do without Python's lock."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

_LARGE = 1 << 16  # entries, which take milliseconds; a thread takes a tenth of one to start

T = TypeVar("T")
R = TypeVar("R")


def threads_for(entries: int) -> int:
    """Return how many threads code masks of so many entries together: as many as torch has, or one if they are few."""
    return torch.get_num_threads() if entries >= _LARGE else 1


def in_threads(function: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """Return what the function makes of each item, in their order.

    What fails first in that order is raised, as without threads, be it an item or the iterable itself. After a failure,
    and after Ctrl-C, no item is begun.
    """
    if threads < 2:
        return [function(item) for item in items]
    pool, made = ThreadPoolExecutor(threads), list[Future[R]]()
    try:
        try:
            for item in items:
                made.append(pool.submit(function, item))
        except Exception:
            for future in made:
                future.result()
            raise
        return [future.result() for future in made]
    finally:
        pool.shutdown(cancel_futures=True)
