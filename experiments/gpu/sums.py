"""S8: subset sums by meeting in the middle, on the GPU against the CPU."""

import time

import numpy as np

from experiments.gpu.bench import Bench


def run(bench: Bench) -> None:
    """Solve problems of 21 coefficients on both; compare their errors."""
    try:
        from theory.subset_sum import solve
    except ModuleNotFoundError as error:
        bench.note("subset sums", f"left out: {error.name} is missing; bring its wheel")
        return
    count, n = bench.size(20_000, 5), bench.size(21, 8)
    generator = np.random.Generator(np.random.Philox(0))
    coefficients, targets = generator.uniform(-1, 1, (count, n)), generator.uniform(-0.5, 0.5, count)
    expected = solve(coefficients[:200], targets[:200], solver="meet_in_the_middle")
    for _ in range(2):  # the first call makes what the second uses again
        began = time.perf_counter()
        found = solve(coefficients, targets, solver="meet_in_the_middle", device=str(bench.device))
        elapsed = time.perf_counter() - began
    differ = float(np.abs(found.error[:200] - expected.error).max())
    bench.note("subset sums of 21: rate", round(count / elapsed), "problems a second")
    # both recompute the error in float64 from their masks, which may be different masks of equal error
    bench.note("subset sums of 21: errors beside the CPU's", differ, "at most", right=differ < 1e-12)
