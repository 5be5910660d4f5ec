"""The statistics themselves. Seeds are fixed; each test that could fail by chance states its false-alarm rate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from supermask.errors import SupermaskError
from theory import bounds, laws
from theory.laws.fits import _resampled_medians


@given(st.integers(1, 300), st.floats(0, 1), st.floats(0.5, 0.999))
def test_clopper_pearson_is_scipys(trials, share, confidence):
    failures = round(share * trials)
    found = laws.clopper_pearson(failures, trials, confidence=confidence)
    expected = stats.binomtest(failures, trials).proportion_ci(confidence, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.value, found.failures, found.trials, found.confidence) == (
        failures / trials,
        failures,
        trials,
        confidence,
    )


@pytest.mark.parametrize("trials", [1, 7, 40])
def test_clopper_pearson_covers_every_probability(trials):
    """Summed over all outcomes, not simulated: no false alarms."""
    curve = laws.failure_curve(range(trials + 1), [trials] * (trials + 1), confidence=0.9)
    for p in np.linspace(0.001, 0.999, 500):
        covering = [k for k, found in enumerate(curve) if found.low <= p <= found.high]
        assert stats.binom.pmf(covering, trials, p).sum() >= 0.9


def test_clopper_pearson_covers_in_a_simulation():
    """20,000 curves of one point, p = 0.03 of 100 trials. One-sided binomial test, false-alarm rate below 1e-3."""
    failed = np.random.default_rng(0).binomial(100, 0.03, 20_000)
    found = {int(k): laws.clopper_pearson(int(k), 100) for k in np.unique(failed)}
    covered = sum(found[int(k)].low <= 0.03 <= found[int(k)].high for k in failed)
    assert stats.binomtest(covered, 20_000, 0.95, alternative="less").pvalue > 1e-3


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=50), st.floats(0.001, 0.5))
def test_kolmogorov_smirnov_is_scipys(values, false_alarm):
    found = laws.kolmogorov_smirnov(values, false_alarm=false_alarm)
    expected = stats.ks_1samp(values, stats.uniform.cdf, method="exact")
    assert found.distance == pytest.approx(expected.statistic)
    assert stats.kstwo.sf(found.critical, len(values)) == pytest.approx(false_alarm)
    assert found.rejected == (found.distance > found.critical)
    assert (found.count, found.false_alarm) == (len(values), false_alarm)


def test_the_critical_value_of_two_thousand():
    assert laws.kolmogorov_smirnov([0.5] * 2000).critical == pytest.approx(0.0435, abs=1e-4)


def test_kolmogorov_smirnov_rejects_as_often_as_it_says():
    """2,000 uniform samples of 30 at a rate of 5 %. Two-sided binomial test, false-alarm rate 1e-3."""
    samples = np.random.default_rng(1).uniform(size=(2000, 30))
    rejected = sum(laws.kolmogorov_smirnov(sample, false_alarm=0.05).rejected for sample in samples)
    assert stats.binomtest(rejected, 2000, 0.05).pvalue > 1e-3


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("count", [11, 12, 41, 300])
def test_the_interval_of_the_median_is_the_narrowest_that_covers(count, confidence):
    """Of 0, 1, ..., N-1 the interval names its own places, and with those the coverage is a binomial sum."""
    found = laws.median(np.arange(count), confidence=confidence)
    assert found.low + found.high == count - 1
    assert found.value == (count - 1) / 2
    below = int(found.low)  # it misses on one side if at most so many values lie below the true median
    assert 1 - 2 * stats.binom.cdf(below, count, 0.5) >= confidence
    assert 1 - 2 * stats.binom.cdf(below + 1, count, 0.5) < confidence


def test_the_interval_of_the_median_covers_heavy_tails():
    """4,000 samples of 41 Cauchy values, without a mean. Two-sided binomial test, false-alarm rate 1e-3."""
    samples = np.random.default_rng(2).standard_cauchy((4000, 41))
    found = [laws.median(sample) for sample in samples]
    covered = sum(m.low <= 0 <= m.high for m in found)
    expected = 1 - 2 * stats.binom.cdf(13, 41, 0.5)
    assert expected >= 0.95
    assert stats.binomtest(covered, 4000, expected).pvalue > 1e-3


def test_the_median_ratio_is_the_scaled_median():
    errors = np.random.default_rng(3).exponential(size=101)
    plain, scaled = laws.median(errors, confidence=0.9), laws.median_ratio(errors, 9, confidence=0.9)
    for name in ("value", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name) * 512 / 3)


def test_a_slope_is_scipys():
    generator = np.random.default_rng(4)
    x, y = generator.normal(size=(2, 9))
    expected = stats.linregress(x, y)
    found = laws.slope(x, y, confidence=0.9)
    half = stats.t.ppf(0.95, 7) * expected.stderr
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.slope, expected.slope - half, expected.slope + half)
    )


def test_a_slope_covers():
    """4,000 lines with normal residuals. Two-sided binomial test, false-alarm rate 1e-3."""
    generator = np.random.default_rng(5)
    x = np.arange(6.0)
    found = [laws.slope(x, 2 - 3 * x + generator.normal(size=6)) for _ in range(4000)]
    assert stats.binomtest(sum(f.low <= -3 <= f.high for f in found), 4000, 0.95).pvalue > 1e-3


@pytest.mark.parametrize("count", [7, 8])
def test_resampled_medians_are_those_of_resamples(count):
    """40,000 draws each of the shortcut and of plain resampling. Two-sample chi-square test, false-alarm rate 1e-3.

    For even counts the median of a resample is taken as its lower or its upper middle value, each half of the time.
    """
    generator = np.random.default_rng(6)
    resamples = np.sort(generator.integers(count, size=(40_000, count)), 1)
    middle = count // 2 - (0 if count % 2 else generator.integers(2, size=40_000))
    plain = resamples[np.arange(40_000), middle]
    short = _resampled_medians(np.arange(count), 40_000, generator).astype(int)
    table = np.stack([np.bincount(drawn, minlength=count) for drawn in (plain, short)])
    if count % 2:
        assert stats.chi2_contingency(table[:, table.min(0) > 5]).pvalue > 1e-3
    else:  # the shortcut is an approximation: within two hundredths of the distribution function
        assert np.abs(np.diff(np.cumsum(table, 1), axis=0)).max() / 40_000 < 0.02


def test_the_slope_of_medians_covers():
    """500 series of five samples of 151 exponentials. The bootstrap's own error is allowed 2.5 %; rate 1e-4 beyond."""
    generator = np.random.default_rng(7)
    x = np.arange(5.0)
    covered = 0
    for seed in range(500):
        samples = [2.0 ** -(2 * place) * generator.exponential(size=151) for place in x]
        found = laws.median_slope(x, np.log2(samples), resamples=500, seed=seed)
        covered += found.low <= -2 <= found.high
    assert 0.90 <= covered / 500 <= 0.99


def test_the_slope_of_medians_is_the_same_each_time():
    samples = np.random.default_rng(8).normal(size=(3, 20))
    assert laws.median_slope([1, 2, 3], samples) == laws.median_slope([1, 2, 3], samples)
    few = [laws.median_slope([1, 2, 3], samples, resamples=50, seed=seed) for seed in (0, 1)]
    assert few[0].value == few[1].value
    assert few[0].low != few[1].low


def exponential_bound(point, constant):
    return min(1.0, math.exp(constant - point))


def test_a_constant_is_found_where_it_is_known():
    points = [3.0, 4.0, 5.0]
    trials = 10**9
    failed = [round(trials * exponential_bound(p, 2.0)) for p in points]
    found = laws.fit_constant(exponential_bound, points, laws.failure_curve(failed, [trials] * 3))
    assert found.value == pytest.approx(2.0, abs=1e-3)
    assert found.low < 2 < found.high
    assert found.high - found.low < 0.01


def test_the_constant_of_the_hardest_point_counts_and_all_points_share_the_confidence():
    """At p = exp(c - 3) the constants 3 + ln(p) are 0.70, 1.39 and 2.08; each point's interval is at 1 - 0.05 / 3."""
    measured = laws.failure_curve([10, 20, 40], [100] * 3)
    found = laws.fit_constant(exponential_bound, [3.0, 3.0, 3.0], measured)
    hardest = laws.clopper_pearson(40, 100, confidence=1 - 0.05 / 3)
    expected = [3 + math.log(p) for p in (0.4, hardest.low, hardest.high)]
    assert [found.value, found.low, found.high] == pytest.approx(expected)


def test_a_constant_is_covered():
    """1,000 fits to binomial failures at three points. One-sided binomial test, false-alarm rate below 1e-3."""
    generator = np.random.default_rng(9)
    points, trials = [3.0, 4.0, 5.0], 200
    truth = [exponential_bound(p, 2.0) for p in points]
    covered = 0
    for _ in range(1000):
        measured = laws.failure_curve(generator.binomial(trials, truth).tolist(), [trials] * 3)
        found = laws.fit_constant(exponential_bound, points, measured)
        covered += found.low <= 2 <= found.high
    assert stats.binomtest(covered, 1000, 0.95, alternative="less").pvalue > 1e-3


def test_an_open_constant_of_a_theorem_is_found_again():
    points = [(n, 0.1) for n in (20, 30, 40)]
    trials = 10**9
    failed = [round(trials * bounds.lueker_failure(*p, constant=1.7)) for p in points]
    found = laws.fit_constant(
        lambda p, c: bounds.lueker_failure(*p, constant=c), points, laws.failure_curve(failed, [trials] * 3)
    )
    assert found.value == pytest.approx(1.7, abs=1e-3)


ONE = laws.clopper_pearson(5, 10)


@pytest.mark.parametrize(
    "call",
    [
        lambda: laws.clopper_pearson(1, 0),
        lambda: laws.clopper_pearson(-1, 5),
        lambda: laws.clopper_pearson(6, 5),
        lambda: laws.clopper_pearson(1, 5, confidence=1.0),
        lambda: laws.failure_curve([1, 2], [5]),
        lambda: laws.kolmogorov_smirnov([]),
        lambda: laws.kolmogorov_smirnov([math.nan]),
        lambda: laws.kolmogorov_smirnov([0.5], false_alarm=0.0),
        lambda: laws.median([1.0, 2.0, 3.0]),
        lambda: laws.median([1.0] * 20, confidence=0.0),
        lambda: laws.median_ratio([1.0] * 20, 0),
        lambda: laws.slope([1.0, 2.0], [1.0, 2.0]),
        lambda: laws.slope([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),
        lambda: laws.slope([1.0, 2.0, 3.0], [1.0, 2.0]),
        lambda: laws.median_slope([1.0], [[1.0]]),
        lambda: laws.median_slope([1.0, 2.0], [[1.0], []]),
        lambda: laws.median_slope([1.0, 2.0], [[1.0], [2.0]], resamples=0),
        lambda: laws.fit_constant(exponential_bound, [], []),
        lambda: laws.fit_constant(exponential_bound, [1.0, 2.0], [ONE]),
        lambda: laws.fit_constant(exponential_bound, [200.0], [ONE]),
        lambda: laws.fit_constant(exponential_bound, [1.0], [ONE], largest=0.0),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(call):
    with pytest.raises(SupermaskError, match=r"^[^\n]*\.$"):
        call()


def test_three_values_are_too_few_for_an_interval():
    with pytest.raises(SupermaskError, match="3 values are too few"):
        laws.median([1.0, 2.0, 3.0])
