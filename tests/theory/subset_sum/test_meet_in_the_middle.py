import itertools
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from supermask.errors import SupermaskError
from theory.subset_sum import _half_sums, _on_device, solve

DISTRIBUTIONS = {
    "uniform": lambda random, shape: random.uniform(-1, 1, shape),
    "normal": lambda random, shape: random.normal(size=shape),
    "products": lambda random, shape: random.uniform(-1, 1, shape) * random.uniform(-1, 1, shape),
    "integers": lambda random, shape: random.integers(-4, 5, shape).astype(float),
    "duplicates": lambda random, shape: random.choice(random.normal(size=3), shape),
    "mostly zeros": lambda random, shape: random.normal(size=shape) * (random.random(shape) < 0.3),
    "all zeros": lambda random, shape: np.zeros(shape),
    "all negative": lambda random, shape: -random.random(shape),
    "all positive": lambda random, shape: random.random(shape),
    "many sizes": lambda random, shape: np.exp(random.normal(0, 5, shape)) * random.choice([-1, 1], shape),
}
MODULE = sys.modules["theory.subset_sum.meet_in_the_middle"]  # the package gives its name to the function
PATHS = {"compiled": {}, "tensors": {"device": "cpu"}}


def _problems(name, count, n, seed=0):
    random = np.random.default_rng([seed, n, list(DISTRIBUTIONS).index(name)])
    coefficients = DISTRIBUTIONS[name](random, (count, n))
    targets = random.uniform(-1, 1, count) * np.abs(coefficients).sum(axis=1) * random.choice([0.1, 0.5, 1.5], count)
    targets[::7] = (coefficients[::7] * random.integers(0, 2, (len(targets[::7]), n))).sum(axis=1)  # in reach
    targets[1::7] = 0.0
    return coefficients, targets


def _same_errors(a, b, coefficients, targets):
    size = np.maximum(np.abs(coefficients).sum(axis=1) + np.abs(targets), 1e-200)
    np.testing.assert_array_less(np.abs(a.error - b.error) / size, 1e-13)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n", range(1, 17))
def test_equals_brute_force(n, path):
    for name in DISTRIBUTIONS:
        problems = _problems(name, 60 if n <= 13 else 12, n)
        solution = solve(*problems, **PATHS[path])
        _same_errors(solution, solve(*problems, solver="brute_force"), *problems)
        assert solution.optimal.all()
        if name in ("integers", "uniform", "normal", "products"):
            best = solve(*problems, solver="brute_force").error
            np.testing.assert_allclose(solution.error, best, rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scale", [1e300, 1e-300, 2.0**-1060])
def test_huge_and_tiny_magnitudes(scale, path):
    coefficients, targets = (x * scale for x in _problems("uniform", 100, 10))
    solution = solve(coefficients, targets, **PATHS[path])
    best = solve(coefficients, targets, solver="brute_force").error
    np.testing.assert_array_less(np.abs(solution.error - best), 1e-13 * scale + 2.0**-1073)


def test_huge_and_tiny_coefficients_side_by_side():
    coefficients = np.array([[1e300, 1e-300, -1e300, 3e-300, 1.0, 2e-300]])
    solution = solve(coefficients, np.array([6e-300]))
    assert solution.error[0] <= 1e-315
    assert solution.mask.tolist() == [[False, True, False, True, False, True]]


@pytest.mark.parametrize("n", [21, 30, 40])
def test_finds_a_planted_subset_of_integers(n):
    random = np.random.default_rng(n)
    coefficients = random.integers(-(2**44), 2**44, (3, n)).astype(float)
    planted = random.random((3, n)) < 0.5
    solution = solve(coefficients, (coefficients * planted).sum(axis=1))
    assert solution.error.tolist() == [0, 0, 0]


def test_tensors_equal_the_compiled_code_beyond_brute_force():
    problems = _problems("uniform", 30, 21)
    _same_errors(solve(*problems), solve(*problems, device="cpu"), *problems)


def test_the_mask_does_not_depend_on_threads_or_on_the_rest_of_the_batch():
    for name, n in itertools.product(("integers", "uniform", "many sizes"), (1, 3, 9, 12)):
        coefficients, targets = _problems(name, 101, n)
        whole = solve(coefficients, targets, threads=1).mask
        for threads in (2, 3, 7, 200):
            np.testing.assert_array_equal(solve(coefficients, targets, threads=threads).mask, whole)
        alone = [solve(coefficients[i : i + 1], targets[i : i + 1]).mask[0] for i in range(101)]
        np.testing.assert_array_equal(alone, whole)
        np.testing.assert_array_equal(solve(coefficients[::-1], targets[::-1]).mask[::-1], whole)


def test_blocks_of_the_batch_are_all_solved(monkeypatch):
    problems = _problems("uniform", 50, 12)
    whole = solve(*problems)
    monkeypatch.setattr(MODULE, "_WORK", 1)
    np.testing.assert_array_equal(solve(*problems, threads=2).mask, whole.mask)
    few = 3.5 * _on_device.bytes_needed(12) / 2**30
    whole = solve(*problems, device="cpu")
    np.testing.assert_array_equal(solve(*problems, device="cpu", memory=few).mask, whole.mask)


@pytest.mark.parametrize(
    ("coefficients", "target", "mask"),
    [
        ([1, 1, 1, 1, 1, 1], 1, [0, 0, 1, 0, 0, 0]),  # neither of the last two; least of the first half; not the later
        ([1, 1, 1, 1, 1, 1], 3, [1, 0, 1, 1, 0, 0]),
        ([0, 0, 0, 0, 0, 0], 0, [0, 0, 0, 0, 0, 0]),
        ([5, 5, 5, 5, 1, 1], 1, [0, 0, 0, 0, 1, 0]),  # the last but one rather than the last
        ([0, 0, 0, 0, 1, -1], 0.5, [0, 0, 0, 0, 0, 0]),  # 0.5 above or below
        ([9, 9, 1, 0, 9, 9], 0.5, [0, 0, 1, 0, 0, 0]),  # of one half the larger sum first
    ],
)
def test_which_of_equal_masks_is_returned(coefficients, target, mask):
    solution = solve(np.array([coefficients], float), np.array([target], float))
    assert solution.mask.astype(int).tolist() == [mask]


@pytest.mark.parametrize(("path", "n"), [("compiled", 72), ("compiled", 71), ("tensors", 60), ("tensors", 59)])
def test_too_much_memory_is_named_with_the_n_that_fits(path, n):
    needed = {"compiled": lambda n: 8 * _half_sums.numbers_needed(n), "tensors": _on_device.bytes_needed}[path]
    fits = max(m for m in range(n) if needed(m) <= 4 * 2**30)
    sentence = f"needs {needed(n) / 2**30:,.1f} GiB for n = {n}, and memory = 4.0 GiB fits n up to {fits}; raise memory"
    with pytest.raises(SupermaskError, match=re.escape(sentence)):
        solve(np.ones((1, n)), np.zeros(1), **PATHS[path])
    with pytest.raises(SupermaskError, match="fits no n"):
        solve(np.ones((1, 9)), np.zeros(1), memory=0.0, **PATHS[path])


def test_memory_limits_the_threads(monkeypatch):
    used = []

    def pool(threads):
        used.append(threads)
        return ThreadPoolExecutor(threads)

    monkeypatch.setattr(MODULE, "ThreadPoolExecutor", pool)
    gib = 8 * _half_sums.numbers_needed(12) / 2**30
    solve(*_problems("uniform", 50, 12), threads=8, memory=3.5 * gib)
    solve(*_problems("uniform", 50, 12), threads=8)
    assert used == [3, 8]


def test_bad_options_are_refused():
    with pytest.raises(SupermaskError, match="threads must be at least 1, not 0"):
        solve(np.ones((1, 2)), np.zeros(1), threads=0)
    with pytest.raises(SupermaskError, match="no device 'cuda:99'"):
        solve(np.ones((1, 2)), np.zeros(1), device="cuda:99")
