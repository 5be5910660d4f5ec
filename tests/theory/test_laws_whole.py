"""The law of whole numbers that add up to a whole target, beside all their subsets."""

import itertools

import numpy as np
import pytest

from supermask.errors import SupermaskError
from theory import laws


def problems(largest, n, count, seed=0):
    random = np.random.default_rng(seed)
    items = random.integers(-largest, largest + 1, (count, n))
    wanted = np.clip(np.rint(random.standard_normal(count) * largest / 4), -largest, largest).astype(int)
    return items, np.where(wanted == 0, 1, wanted)


def reached(row, wanted):
    """Whether some subset adds up to a target: all sums at once, as the bits of one integer."""
    sums = 1
    for item in row:
        sums |= sums << abs(item)
    place = wanted - sum(item for item in row if item < 0)
    return place >= 0 and bool(sums >> place & 1)


def missed(items, wanted):
    return sum(not reached(*each) for each in zip(items.tolist(), wanted.tolist(), strict=True))


def test_the_oracle_knows_all_subsets():
    items, wanted = problems(9, 5, 200)
    for row, target in zip(items.tolist(), wanted.tolist(), strict=True):
        sums = {sum(part) for k in range(6) for part in itertools.combinations(row, k)}
        assert reached(row, target) == (target in sums)


def test_the_law_of_8_bits_says_how_many_are_missed():
    """With 12 items; neither the normal law nor the count of subsets, in which some count twice, does."""
    items, wanted = problems(127, 12, 20_000)
    found = laws.clopper_pearson(missed(items, wanted), len(wanted))
    assert found.low <= laws.predicted_misses(items, wanted) <= found.high
    assert laws.predicted_misses(items, wanted, distinct=False) < found.low
    assert laws.predicted_failure(items, wanted, 0.5) < found.value


def test_what_is_out_of_reach_is_most_that_is_missed_of_4_bits():
    items, wanted = problems(7, 12, 30_000)
    found = laws.clopper_pearson(missed(items, wanted), len(wanted))
    lowest, highest = np.minimum(items, 0).sum(1), np.maximum(items, 0).sum(1)
    outside = int(((wanted < lowest) | (wanted > highest)).sum())
    assert outside > 0.5 * found.value * len(wanted)
    rates = laws.whole_rate(items, wanted)
    assert np.count_nonzero(rates == 0.0) == outside
    assert np.isinf(rates[(wanted == lowest) | (wanted == highest)]).all()
    assert laws.predicted_failure(items, wanted, 0.5) < found.low / 2
    assert found.value / 2 < laws.predicted_misses(items, wanted, distinct=False) <= found.high
    assert found.value < laws.predicted_misses(items, wanted)  # of few sizes, sums are more regular than chance


@pytest.mark.parametrize("distinct", [True, False])
def test_the_rate_is_the_number_of_ways_in_the_middle_and_far_out(distinct):
    row = np.random.default_rng(1).integers(-40, 41, 18)
    row[:4] = [0, 7, 7, -7]
    counts, low = np.ones(1), int(np.minimum(row, 0).sum())
    steps = [(abs(item), 1) for item in row]
    if distinct:
        steps = [(size, int((np.abs(row) == size).sum())) for size in sorted(set(np.abs(row).tolist())) if size]
    for size, times in steps:
        counts = sum(np.pad(counts, (a * size, (times - a) * size)) for a in range(times + 1))
    middle, deviation = row.sum() / 2, np.sqrt((row**2).sum() / 4)
    for far in (0.0, 1.5, 3.0):
        window = np.arange(round(middle + far * deviation) - 8, round(middle + far * deviation) + 9)
        exact = counts[window - low].mean()
        rates = laws.whole_rate(np.tile(row, (len(window), 1)), window, distinct=distinct).mean()
        assert rates == pytest.approx(exact, rel=0.12)
    if not distinct:
        normal = laws.rate(np.tile(row, (len(window), 1)), window).mean() / 2
        assert normal > 1.3 * exact  # the normal law promises more far out than there is


def test_of_zeros_alone_nothing_but_zero_is_in_reach():
    assert laws.whole_rate([[0, 0], [0, 0], [0, 3]], [0, 1, 3]).tolist() == [np.inf, 0.0, np.inf]
    assert laws.predicted_misses([[0, 0], [0, 0]], [0, 1]) == 0.5


def test_what_is_not_whole_is_refused():
    with pytest.raises(SupermaskError, match=r"^coefficients and targets must be whole numbers; round them first, .*"):
        laws.whole_rate([[0.5, 1.0]], [1])
    with pytest.raises(SupermaskError, match=r"^A mean over no problems does not exist"):
        laws.predicted_misses(np.zeros((0, 3)), np.zeros(0))
