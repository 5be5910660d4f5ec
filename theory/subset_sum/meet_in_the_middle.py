"""Exact answers from the sorted sums of two halves (Horowitz and Sahni 1974)."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from tqdm.auto import tqdm

from supermask.errors import SupermaskError
from supermask.shown import quoted
from theory.subset_sum import _on_device
from theory.subset_sum._half_sums import SPARE, numbers_needed, solve_block
from theory.subset_sum.problem import Answer, Mask, Problem

_WORK = 1 << 22  # sums in one block of problems: a fraction of a second
_FEWEST = 4  # problems in a block, where there are enough: they share their scratch


def meet_in_the_middle(
    problem: Problem, *, threads: int | None = None, device: str | None = None, memory: float = 4.0
) -> Answer:
    """Find the best subset of each problem in time and memory of order 2^(n/2).

    Horowitz and Sahni, Computing partitions with applications to the knapsack problem, J. ACM 21 (1974), with the
    sorted half-sums built by merging. Every answer is optimal to the rounding of float64 sums, which is below
    n 2^-52 (|target| + sum |coefficients|); above n of about 44 neighbouring sums are closer than that.

    Of equal errors the same mask is returned with every number of threads and in every batch: without the last two
    coefficients rather than with the one before the last, the last, or both; then the pair of half-sums that is met
    first, the sum of the first half rising and that of the second falling; then the subset of each half that leaves out
    its later coefficients. On a `device` the mask may be another of those that are best to rounding.

    Args:
        problem: the batch.
        threads: how many threads share the batch; None for all cores that this process may use.
        device: None for the compiled code; "cuda" (or "cpu") for sorting and searching batches with torch.
        memory: most GiB of half-sums at a time, all threads together. Fewer threads are used where that fits.

    Raises:
        SupermaskError: the half-sums of one problem do not fit into `memory`, `threads` is below 1, or `device` is not
            there.

    """
    limit = int(memory * 2**30)
    if threads is not None and threads < 1:
        raise SupermaskError(f"threads must be at least 1, not {threads}.")
    if device is not None:
        return _answer(_solve_on(problem, _available(device), limit))
    _check_memory(problem.n, limit, _bytes_of_thread)
    most = max(1, min(threads or available_cores(), limit // _bytes_of_thread(problem.n), problem.batch))
    return _answer(_solve_compiled(problem, most))


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _answer(mask: Mask) -> Answer:
    return Answer(mask, np.ones(len(mask), np.bool_))


def _bytes_of_thread(n: int) -> int:
    return 8 * numbers_needed(n)


def _gib(count: int) -> str:
    gib = count / 2**30
    return f"{gib:,.1f} GiB" if gib >= 0.1 else f"{gib:.2g} GiB"


def _check_memory(n: int, limit: int, bytes_of: Callable[[int], int]) -> None:
    """Refuse an n whose half-sums do not fit, and say which does."""
    if bytes_of(n) <= limit:
        return
    fits = next((m for m in range(n, 0, -1) if bytes_of(m) <= limit), 0)
    raise SupermaskError(
        f"meet_in_the_middle needs {_gib(bytes_of(n))} for n = {n}, and memory = {_gib(limit)} "
        + (f"fits n up to {fits}; raise memory or take fewer coefficients." if fits else "fits no n; raise memory.")
    )


def _solve_compiled(problem: Problem, threads: int) -> Mask:
    """Share blocks of problems among threads; each block has its own scratch, and each problem is solved alone."""
    coefficients = problem.coefficients
    if problem.n < SPARE:
        coefficients = np.pad(coefficients, ((0, 0), (0, SPARE - problem.n)))
    mask = np.zeros(coefficients.shape, np.bool_)
    rows = max(_FEWEST, _WORK >> (problem.n // 2))
    rows = max(1, min(rows, -(-problem.batch // threads)))

    def solve(start: int) -> None:
        block = slice(start, start + rows)
        scratch = np.empty(numbers_needed(problem.n))
        solve_block(coefficients[block], problem.targets[block], scratch, mask[block])

    starts = range(0, problem.batch, rows)
    if len(starts) == 1:  # a pool and a bar take longer than the sums of a few problems
        solve(0)
        return mask[:, : problem.n]
    pool = ThreadPoolExecutor(threads)
    try:
        with tqdm(total=problem.batch, desc="subset sums", unit="problem", disable=None, delay=2) as bar:
            for start, _ in zip(starts, pool.map(solve, starts), strict=True):
                bar.update(min(rows, problem.batch - start))
    finally:
        pool.shutdown(cancel_futures=True)
    return mask[:, : problem.n]


def _available(device: str) -> torch.device:
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError):
        raise SupermaskError(f"There is no device {quoted(device)} here; leave it out, or give one that is.") from None
    return found


def _solve_on(problem: Problem, device: torch.device, limit: int) -> Mask:
    """Solve as many problems at a time as fit into the memory."""
    _check_memory(problem.n, limit, _on_device.bytes_needed)
    rows = limit // _on_device.bytes_needed(problem.n)
    mask = np.zeros((problem.batch, problem.n), np.bool_)
    with tqdm(total=problem.batch, desc="subset sums", unit="problem", disable=None, delay=2) as bar:
        for start in range(0, problem.batch, rows):
            block = slice(start, start + rows)
            coefficients = torch.from_numpy(problem.coefficients[block]).to(device)
            targets = torch.from_numpy(problem.targets[block]).to(device)
            mask[block] = _on_device.solve_block(coefficients, targets).cpu().numpy()
            bar.update(len(targets))
    return mask
