"""Rates of the solvers and their ratios, from one run: `python -m theory.subset_sum.benchmark --out FILE`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from supermask.files import write_json
from supermask.versions import commit, machine, versions
from theory.subset_sum import solve
from theory.subset_sum.problem import Floats

EXPERIMENT_1 = 397_000  # problems of Pensia et al. 2020, experiment 1
PUBLISHED_SECONDS = 77_266.02  # of the same, on 36 cores with a commercial solver


@dataclass(frozen=True)
class Benchmark:
    """Measure the rate of each solver on random problems.

    Attributes:
        out: where to write the results, as JSON.
        n: coefficients of each problem, uniform on [-1, 1]; targets are uniform on [-1/2, 1/2].
        problems: problems that meet_in_the_middle is timed on, with one thread.
        repeats: how often; the median rate counts, and the best is beside it.
        integer_problems: problems that integer_program is timed on, each to optimality.
        threads: threads for the number of problems of the published experiment.
        device: also time meet_in_the_middle on this device, such as cuda.
        seed: of the problems.

    """

    out: Path
    n: int = 21
    problems: int = 50_000
    repeats: int = 5
    integer_problems: int = 10
    threads: int = 2
    device: str | None = None
    seed: int = 0


def measure(benchmark: Benchmark) -> dict[str, Any]:
    """Return the rates in problems per second, and their ratios."""
    small = random_problems(benchmark.integer_problems, benchmark)
    batch = random_problems(benchmark.problems, benchmark)
    large = random_problems(EXPERIMENT_1, benchmark)
    solve(*small)  # compiles
    times = [seconds(lambda: solve(*batch, threads=1)) for _ in range(benchmark.repeats)]
    rate = len(batch[0]) / float(np.median(times))
    program_rate = len(small[0]) / seconds(lambda: _solve_to_optimality(*small))
    large_seconds = seconds(lambda: solve(*large, threads=benchmark.threads))
    results = {
        "meet_in_the_middle_one_core_per_second": rate,
        "meet_in_the_middle_one_core_per_second_best": len(batch[0]) / min(times),
        "integer_program_highs_per_second": program_rate,
        "ratio": rate / program_rate,
        "problems_of_experiment_1": EXPERIMENT_1,
        "experiment_1_seconds": large_seconds,
        "experiment_1_published_seconds": PUBLISHED_SECONDS,
        "experiment_1_ratio": PUBLISHED_SECONDS / large_seconds,
    }
    if benchmark.device is not None:
        device = benchmark.device
        solve(*small, device=device)
        results["device_per_second"] = EXPERIMENT_1 / seconds(lambda: solve(*large, device=device))
    return results


def random_problems(count: int, benchmark: Benchmark) -> tuple[Floats, Floats]:
    """Draw coefficients (count, n) and targets (count,)."""
    random = np.random.default_rng(benchmark.seed)
    return random.uniform(-1, 1, (count, benchmark.n)), random.uniform(-0.5, 0.5, count)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _versions() -> dict[str, str]:
    return versions() | {name: version(name) for name in ("numba", "pulp", "highspy")}


def _solve_to_optimality(coefficients: Floats, targets: Floats) -> None:
    assert solve(coefficients, targets, solver="integer_program").optimal.all()


def main() -> None:
    """Measure, print and write."""
    benchmark = tyro.cli(Benchmark)
    results = measure(benchmark)
    for name, value in results.items():
        print(f"{name:40} {value:>14,.6g}")
    settings = {"n": benchmark.n, "threads": benchmark.threads, "seed": benchmark.seed, "device": benchmark.device}
    write_json(
        benchmark.out,
        {"settings": settings, "results": results, "machine": machine(), "versions": _versions(), "commit": commit()},
    )


if __name__ == "__main__":
    main()
