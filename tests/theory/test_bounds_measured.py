"""The bounds against each other and against what is measured.

Seeds are fixed, and each test that could fail by chance states its false-alarm rate.
"""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from theory import bounds, laws

SMALL = st.floats(1e-6, 0.06)


def all_sums(coefficients):
    sums = np.zeros(1)
    for item in coefficients:
        sums = np.concatenate([sums, sums + item])
    return np.sort(sums)


@given(SMALL, st.floats(1e-6, 0.5), st.floats(bounds.LUEKER_CONSTANT_FLOOR, 10))
def test_what_suffices_is_never_below_what_is_necessary_for_subset_sums(epsilon, failure, constant):
    necessary = bounds.information_items(epsilon)
    assert bounds.lueker_items(epsilon, failure, constant=constant) >= necessary
    # all sums serve all of [-1/2, 1/2] but with probability `failure`, so they serve that part of the targets
    items = bounds.lueker_items(epsilon, failure, constant=constant)
    assert bounds.information_success(items, epsilon) >= 1 - failure
    assert bounds.malach_pairs(epsilon, failure) >= bounds.malach_products(epsilon, failure) >= necessary


def test_a_constant_below_the_floor_contradicts_the_information_bound():
    """The floor is the limit of small epsilon; the theorem's own failure term asks for more items at any other."""
    epsilon = 1e-300
    below = bounds.lueker_items(epsilon, 0.999, constant=0.9 * bounds.LUEKER_CONSTANT_FLOOR)
    above = bounds.lueker_items(epsilon, 0.999, constant=bounds.LUEKER_CONSTANT_FLOOR)
    assert below < bounds.information_items(epsilon) <= above
    assert pytest.approx(0.7213, abs=1e-4) == bounds.LUEKER_CONSTANT_FLOOR


@given(st.integers(1, 40), SMALL, st.floats(1e-6, 0.5), st.floats(bounds.LUEKER_CONSTANT_FLOOR, 10))
def test_no_network_that_suffices_is_smaller_than_the_packing_bound(width, epsilon, failure, constant):
    square = (width, width)
    necessary = bounds.packing_parameters(width, epsilon, probability=1 - failure)
    assert bounds.pensia_parameters(square, epsilon, failure, constant=constant) >= necessary
    assert bounds.burkholz_parameters(square, epsilon, failure, constant=constant) >= necessary
    malach = bounds.malach_widths(square, epsilon, failure)
    assert bounds.parameter_count(square, malach) >= necessary
    assert bounds.parameter_count(square, malach) >= bounds.natale_parameters(width, 2 * width**2, epsilon)


@given(st.integers(1, 12), st.integers(1, 300), st.floats(1e-6, 0.0624))
def test_the_fixed_size_bound_follows_from_counting_masks(width, kept, epsilon):
    """With one weight less than it says, there are fewer masks than half of its packing has matrices."""
    assume(width**2 / 2 * math.log2(kept / epsilon) < 45 * kept)  # otherwise more weights than can be counted
    needed = bounds.natale_parameters(width, kept, epsilon)
    packing = width**2 * math.log2(math.sqrt(kept) / (2 * epsilon)) - 1
    masks = math.comb(needed - 1, kept)
    assert masks == 0 or math.log2(masks) <= packing + 1e-9


@pytest.mark.parametrize("items", range(1, 12))
def test_the_information_bound_is_reached_by_binary_digits(items):
    """Sums of 1/2, 1/4, ... are evenly spaced: exactly as many items as the bound asks for, and not one to spare."""
    epsilon = 2.0 ** -(items + 1)
    assert bounds.information_items(epsilon) == items
    assert bounds.information_items(epsilon * (1 - 1e-15)) == items + 1
    digits = 2.0 ** -np.arange(1, items + 1)
    assert laws.covering_radius(digits, -epsilon, 1 - epsilon) == epsilon


def test_measured_errors_keep_to_the_information_bound():
    """100 draws at each n: no fraction of 10,001 even targets exceeds it. Not by chance: it holds for each draw."""
    generator = np.random.default_rng(0)
    targets = np.linspace(-0.5, 0.5, 10001)
    for items in range(1, 9):
        for _ in range(100):
            sums = all_sums(generator.uniform(-1, 1, items))
            places = np.clip(np.searchsorted(sums, targets), 1, len(sums) - 1)
            errors = np.minimum(abs(targets - sums[places - 1]), abs(targets - sums[places]))
            for epsilon in (0.03, 0.003):
                # each sum's interval can hold one grid point more than its length has
                slack = len(sums) / len(targets)
                assert (errors <= epsilon).mean() <= bounds.information_success(items, epsilon) + slack


def test_fewer_items_than_the_information_bound_never_reach_all_targets():
    generator = np.random.default_rng(1)
    for epsilon in (0.1, 0.03, 0.01, 0.003):
        items = bounds.information_items(epsilon) - 1
        assert min(laws.covering_radius(generator.uniform(-1, 1, items)) for _ in range(200)) > epsilon


@pytest.mark.parametrize("weight", [0.0, 0.3, -0.5, 1.0])
def test_the_pairs_that_malach_asks_for_are_enough(weight):
    """1,000 draws: failures do not exceed the promise of 10 %. False-alarm rate 1e-3 at most; one-sided binomial."""
    generator = np.random.default_rng(2)
    epsilon, failure, draws = 0.4, 0.1, 1000
    k = bounds.malach_pairs(epsilon, failure)
    w, u = generator.uniform(-1, 1, (2, draws, k))
    hit = [(abs(s * w - weight) <= epsilon / 2) & (abs(s * u - 1) <= epsilon / 2) for s in (1, -1)]
    missed = ~(hit[0].any(1) & hit[1].any(1))
    assert laws.clopper_pearson(int(missed.sum()), draws, confidence=0.998).low <= failure
    few = [hits[:, : k // 10].any(1) for hits in hit]
    assert (few[0] & few[1]).mean() < 1 - failure  # the count is not idle: a tenth of it breaks the promise


@pytest.mark.parametrize("weight", [0.0, 0.3, -0.5])
def test_the_products_that_are_asked_for_are_enough(weight):
    """1,000 draws: failures do not exceed the promise of 10 %. False-alarm rate 1e-3 at most; one-sided binomial."""
    generator = np.random.default_rng(3)
    epsilon, failure, draws = 0.02, 0.1, 1000
    w, u = generator.uniform(-1, 1, (2, draws, bounds.malach_products(epsilon, failure)))
    hit = abs(u * w - weight) <= epsilon
    missed = ~(hit & (w > 0)).any(1) | ~(hit & (w < 0)).any(1)
    assert laws.clopper_pearson(int(missed.sum()), draws, confidence=0.998).low <= failure


def test_luekers_constant_can_be_fitted():
    """200 draws at six points: the fitted constant is the smallest with which the bound holds at all of them."""
    generator = np.random.default_rng(4)
    points = [(n, epsilon) for epsilon in (0.1, 0.01) for n in (4, 6, 8)]
    failed = [sum(laws.covering_radius(generator.uniform(-1, 1, n)) > e for _ in range(200)) for n, e in points]
    measured = laws.failure_curve(failed, [200] * len(points))
    fit = laws.fit_constant(lambda p, c: bounds.lueker_failure(*p, constant=c), points, measured)
    assert fit.low <= fit.value <= fit.high
    assert all(bounds.lueker_failure(*p, constant=fit.value) >= m.value for p, m in zip(points, measured, strict=True))
    less = 0.99 * fit.value
    assert any(bounds.lueker_failure(*p, constant=less) < m.value for p, m in zip(points, measured, strict=True))
