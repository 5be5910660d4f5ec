from itertools import product

import numpy as np
import pytest
from scipy import stats

from supermask import SupermaskError
from supermask.judge import paired


def by_hand(differences):
    """Return the sign-flip p-value by a look at every way to give signs; integers have no rounding."""
    seen = abs(sum(differences))
    ways = list(product((1, -1), repeat=len(differences)))
    return sum(abs(sum(s * d for s, d in zip(way, differences, strict=True))) >= seen for way in ways) / len(ways)


@pytest.mark.parametrize("n", range(1, 10))
def test_the_p_value_is_the_share_of_all_signs(n):
    random = np.random.default_rng(n)
    for span in (2, 5, 100):  # small spans give many ties
        counts = random.integers(-span, span + 1, n).tolist()
        assert paired(counts, [0] * n).p == by_hand(counts)
        # as accuracies of 1,000 examples, whose differences are rounded
        shifted = paired([(700 + count) / 1000 for count in counts], [0.7] * n)
        assert shifted.p == by_hand(counts)


def test_the_p_value_is_that_of_scipy():
    first, second = np.random.default_rng(0).normal([[0.7], [0.0]], 1.0, (2, 12))
    scipy = stats.permutation_test(
        (first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert paired(first.tolist(), second.tolist()).p == pytest.approx(scipy.pvalue)


def test_the_p_value_of_many_pairs_is_counted_too():
    differences = np.random.default_rng(1).normal(0.3, 1, 17)
    signs = np.array(list(product((1, -1), repeat=17)))
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    assert paired(differences.tolist(), [0.0] * 17).p == expected
    assert paired([1.0] * 40, [0.0] * 40).p == 2.0**-39


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_smallest_p_value_is_that_of_differences_of_one_sign(n):
    found = paired([0.9 + 0.01 * i for i in range(n)], [0.5] * n)
    assert found.p == found.smallest_p == 2 / 2**n
    assert paired([0.5] * n, [0.5] * n).p == 1.0


def test_the_test_keeps_its_level():
    """Of all signs of some differences, which are equally likely without an effect, at most a share p has p or less."""
    sizes = np.random.default_rng(2).integers(1, 6, 8)
    ps = np.array([paired((sizes * way).tolist(), [0] * 8).p for way in product((1, -1), repeat=8)])
    assert all((ps <= p).mean() <= p for p in set(ps))


def test_the_interval_is_students_of_the_differences():
    first, second = [0.91, 0.94, 0.93, 0.95], [0.90, 0.90, 0.94, 0.91]
    low, high = stats.ttest_rel(first, second).confidence_interval()
    found = paired(first, second)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.difference.value == pytest.approx(0.02)
    assert found.text() == "+2.00 ± 3.90"
    assert found.values() == {
        "difference": found.difference.value,
        "half_width": found.difference.half_width,
        "n": 4,
        "p": 0.375,
        "smallest_p": 0.125,
    }


def test_one_pair_decides_nothing():
    found = paired([0.9], [0.5])
    assert (found.low, found.high, found.p, found.n) == (-np.inf, np.inf, 1.0, 1)
    assert found.text() == "+40.00"


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [1.0, 2.0]), ([1.0] * 41, [0.0] * 41)])
def test_what_is_no_pairs_is_refused(first, second):
    with pytest.raises(SupermaskError, match=f"Cannot pair {len(first)} values with {len(second)}; give 1 to 40"):
        paired(first, second)


def test_an_interval_reaches_at_least_one_unit():
    equal = paired([0.5, 0.7, 0.6], [0.4, 0.6, 0.5], unit=0.01)
    assert (equal.low, equal.high) == pytest.approx((0.09, 0.11))
    wide = paired([0.5, 0.9], [0.4, 0.6], unit=0.01)
    assert wide == paired([0.5, 0.9], [0.4, 0.6])
    assert paired([0.5], [0.4], unit=0.01).difference.half_width is None
