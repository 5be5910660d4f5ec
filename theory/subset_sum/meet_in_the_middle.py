"""Exact answers from the sorted sums of two halves (Horowitz and Sahni 1974)."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from supermask.errors import SupermaskError
from supermask.shown import quoted
from theory.subset_sum import _on_device, _sums_by_size
from theory.subset_sum._half_sums import SPARE, numbers_needed, solve_block
from theory.subset_sum.objectives import FewestTerms, FixedTerms, Objective, SmallestError, check_terms
from theory.subset_sum.problem import Answer, Floats, Mask, Problem

_WORK = 1 << 22  # sums in one block of problems: a fraction of a second
_FEWEST = 4  # problems in a block, where there are enough: they share their scratch


def meet_in_the_middle(
    problem: Problem,
    *,
    objective: Objective | None = None,
    threads: int | None = None,
    device: str | None = None,
    memory: float = 4.0,
) -> Answer:
    """Find the best subset of each problem in time and memory of order 2^(n/2), or the best or the first of a size.

    Horowitz and Sahni, Computing partitions with applications to the knapsack problem, J. ACM 21 (1974), with the
    sorted half-sums built by merging. Every answer is optimal to the rounding of float64 sums, which is below
    n 2^-52 (|target| + sum |coefficients|); above n of about 44 neighbouring sums are closer than that.

    Of equal errors the same mask is returned with every number of threads and in every batch: without the last two
    coefficients rather than with the one before the last, the last, or both; then the pair of half-sums that is met
    first, the sum of the first half rising and that of the second falling; then the subset of each half that leaves out
    its later coefficients. On a `device` the mask may be another of those that are best to rounding.

    `FixedTerms` and `FewestTerms` split the half-sums by their number of terms. Of `FewestTerms` the answer is the best
    of the smallest subsets within `max_error`, to the same rounding: a subset whose error is that close to `max_error`
    may count as within it or not, but one that is returned is within it. Where there is none, the mask is empty and
    `optimal` False. Of equal errors the subset with fewer terms in the first half of the coefficients is returned, then
    as above. Few terms need little time and memory: subsets of 6 out of 60 take 55 MiB.

    Args:
        problem: the batch.
        objective: `SmallestError()` (the default), `FewestTerms(max_error)` or `FixedTerms(terms)`.
        threads: how many threads share the batch; None for all cores that this process may use.
        device: None for the compiled code; "cuda" (or "cpu") for sorting and searching batches with torch.
        memory: most GiB of half-sums at a time, all threads together. Fewer threads are used where that fits.

    Raises:
        SupermaskError: the half-sums of one problem do not fit into `memory`, `threads` is below 1, `device` is not
            there or given with an objective of terms, or there are fewer coefficients than terms asked for.

    """
    limit = int(memory * 2**30)
    if threads is not None and threads < 1:
        raise SupermaskError(f"threads must be at least 1, not {threads}.")
    if not (objective is None or isinstance(objective, SmallestError)):
        if device is not None:
            raise SupermaskError(f"On a device the smallest error alone is found; leave out device, or {objective}.")
        return _solve_by_size(problem, objective, threads, limit)
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
    """Solve each problem alone; those of a block share their scratch."""
    coefficients = problem.coefficients
    if problem.n < SPARE:
        coefficients = np.pad(coefficients, ((0, 0), (0, SPARE - problem.n)))
    mask = np.zeros(coefficients.shape, np.bool_)

    def solve(block: slice) -> None:
        scratch = np.empty(numbers_needed(problem.n))
        solve_block(coefficients[block], problem.targets[block], scratch, mask[block])

    _in_blocks(solve, problem.batch, threads, _WORK >> (problem.n // 2))
    return mask[:, : problem.n]


def _solve_by_size(problem: Problem, objective: FewestTerms | FixedTerms, threads: int | None, limit: int) -> Answer:
    """Find the best subset of the size that is asked for, or of the smallest that is within the error."""
    check_terms(objective, problem.n)
    sizes = np.zeros((problem.batch, 2), np.int64)  # first and last that are tried
    if isinstance(objective, FixedTerms):
        sizes[:], largest = objective.terms, math.inf
    else:
        sizes[:, 1], largest = problem.n, objective.max_error
    terms = int(sizes.max(initial=0))
    needed = partial(_sums_by_size.numbers_needed, terms=terms)
    _check_memory(problem.n, limit, lambda n: 8 * needed(n))
    most = max(1, min(threads or available_cores(), limit // (8 * needed(problem.n)), problem.batch))
    # sums in another order differ by less: the errors of the masks, judged below, decide
    rounding = problem.n * 2.0**-52 * (np.abs(problem.coefficients).sum(axis=1) + np.abs(problem.targets))
    mask, found = np.zeros((problem.batch, problem.n), np.bool_), np.full(problem.batch, -1, np.int64)
    left = np.arange(problem.batch)
    while len(left):
        part = Problem(problem.coefficients[left], problem.targets[left])
        enough = largest + rounding[left]
        mask[left], found[left] = _sized(part, sizes[left], enough, terms, most)
        left = left[(found[left] >= 0) & (part.error(mask[left]) > largest)]
        sizes[left, 0] = found[left] + 1
        mask[left] = False
    return Answer(mask, found >= 0)


def _sized(
    problem: Problem, sizes: NDArray[np.int64], enough: Floats, terms: int, threads: int
) -> tuple[Mask, NDArray[np.int64]]:
    """Return the masks of the smallest sizes whose best error is enough, and these sizes, -1 where none is."""
    mask, found = np.zeros((problem.batch, problem.n), np.bool_), np.empty(problem.batch, np.int64)
    choose = _sums_by_size.binomials(problem.n, terms)

    def solve(block: slice) -> None:
        scratch = np.empty(_sums_by_size.numbers_needed(problem.n, terms))
        coefficients, targets = problem.coefficients[block], problem.targets[block]
        _sums_by_size.solve_block(
            coefficients, targets, sizes[block], enough[block], choose, scratch, mask[block], found[block]
        )

    _in_blocks(solve, problem.batch, threads, _WORK // _sums_by_size.numbers_needed(problem.n, terms))
    return mask, found


def _in_blocks(solve: Callable[[slice], None], batch: int, threads: int, rows: int) -> None:
    """Share blocks of about so many problems among threads, with a progress bar where it takes long."""
    rows = max(1, min(max(_FEWEST, rows), -(-batch // threads)))
    starts = range(0, batch, rows)
    if len(starts) == 1:  # a pool and a bar take longer than the sums of a few problems
        solve(slice(0, rows))
        return
    pool = ThreadPoolExecutor(threads)
    blocks = [slice(start, start + rows) for start in starts]
    try:
        with tqdm(total=batch, desc="subset sums", unit="problem", disable=None, delay=2) as bar:
            for block, _ in zip(blocks, pool.map(solve, blocks), strict=True):
                bar.update(min(rows, batch - block.start))
    finally:
        pool.shutdown(cancel_futures=True)


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
