"""Each distribution follows its law, says what it is, and refuses parameters that make no sense.

The statistical tests have fixed seeds; `ALARM` is the chance that a sound generator would fail one, had the seeds been
drawn at random.
"""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from scipy import stats

from supermask.errors import SupermaskError
from supermask.random.distributions import (
    KNOWN,
    RELU_GAIN,
    Fans,
    KaimingNormal,
    KaimingUniform,
    SignedConstant,
    SignOf,
    TruncatedNormal,
    Uniform,
    UniformInteger,
    XavierNormal,
    XavierUniform,
    from_description,
    named,
)
from supermask.random.stream import Stream

ALARM = 1e-6
FANS = Fans(fan_in=40, fan_out=10)


def draw(distribution, count=50_000, fans=FANS, name="w"):
    return distribution.draw(Stream(11, name, "weights"), count, fans)


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


def _named(value):
    """Return the name of a distribution or a law: scipy's prints its address, which is another in each process."""
    return value.dist.name if hasattr(value, "dist") else str(value)


LAWS = [
    (KaimingNormal(), stats.norm(scale=math.sqrt(2 / 40))),
    (KaimingNormal(mode="fan_out"), stats.norm(scale=math.sqrt(2 / 10))),
    (KaimingNormal(gain=1.0), stats.norm(scale=math.sqrt(1 / 40))),
    (KaimingUniform(), uniform(math.sqrt(6 / 40))),
    (KaimingUniform(gain=0.5, mode="fan_out"), uniform(0.5 * math.sqrt(3 / 10))),
    (XavierNormal(), stats.norm(scale=math.sqrt(2 / 50))),
    (XavierNormal(gain=3.0), stats.norm(scale=3 * math.sqrt(2 / 50))),
    (XavierUniform(), uniform(math.sqrt(6 / 50))),
    (XavierUniform(gain=2.0), uniform(2 * math.sqrt(6 / 50))),
    (Uniform(), uniform(1.0)),
    (Uniform(bound=0.1), uniform(0.1)),
    (TruncatedNormal(), stats.truncnorm(-2, 2, scale=math.sqrt(2 / 40))),
    (TruncatedNormal(gain=1.0, mode="fan_out", cut=0.7), stats.truncnorm(-0.7, 0.7, scale=math.sqrt(1 / 10))),
]


@pytest.mark.parametrize(("distribution", "law"), LAWS, ids=_named)
def test_weights_follow_the_law(distribution, law):
    weights = draw(distribution)
    assert weights.dtype == np.float64
    assert stats.kstest(weights, law.cdf).pvalue > ALARM


@pytest.mark.parametrize(("distribution", "law"), LAWS, ids=_named)
def test_weights_lie_in_the_support_of_the_law(distribution, law):
    low, high = law.support()
    # one ulp, because the law's support is rounded as well
    assert np.all(np.abs(draw(distribution)) <= high * (1 + 2**-52))
    assert low == pytest.approx(-high)


@pytest.mark.parametrize("bound", [1, 7, 127])
def test_integers_are_uniform_and_float32_holds_them(bound):
    drawn = draw(UniformInteger(bound))
    assert np.array_equal(drawn, np.round(drawn))
    assert np.array_equal(drawn, drawn.astype(np.float32))
    assert np.abs(drawn).max() <= bound
    places = np.floor((drawn + bound) * min(15, 2 * bound + 1) / (2 * bound + 1)).astype(int)  # into 3 or 15 classes
    chances = np.bincount(np.arange(2 * bound + 1) * min(15, 2 * bound + 1) // (2 * bound + 1)) / (2 * bound + 1)
    assert stats.chisquare(np.bincount(places, minlength=len(chances)), len(drawn) * chances).pvalue > ALARM
    assert UniformInteger(bound).deviation(FANS) == pytest.approx(stats.randint(-bound, bound + 1).std(), rel=1e-12)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_ends_of_the_integers_are_reached_and_not_passed(word, monkeypatch):
    monkeypatch.setattr(Stream, "words", lambda self, count: np.full(count, word, np.uint64))
    for bound in (1, 127, 2**24):
        assert draw(UniformInteger(bound), 1).tolist() == [bound if word else -bound]


@pytest.mark.parametrize("bound", [0, -1, 1.5, True, 2**24 + 1, "127"])
def test_a_bound_that_is_no_integer_in_range_is_refused(bound):
    with pytest.raises(SupermaskError, match="uniform_integer has bound="):
        UniformInteger(bound)


def test_every_known_distribution_has_its_law_tested():
    assert {distribution.name for distribution, _ in LAWS} | {"signed_constant", "sign_of", "uniform_integer"} == set(
        KNOWN
    )


@pytest.mark.parametrize(("distribution", "law"), LAWS, ids=_named)
def test_the_deviation_is_that_of_the_law(distribution, law):
    assert distribution.deviation(FANS) == pytest.approx(law.std(), rel=1e-12)


@pytest.mark.parametrize("cut", [0.1, 1.0, 6.0, 30.0, 1e3, 1e200])
def test_a_cut_of_any_size_leaves_a_deviation(cut):
    expected = stats.truncnorm(-cut, cut).std() if cut < 30 else 1.0
    assert TruncatedNormal(gain=1.0, cut=cut).deviation(Fans(1, 1)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("distribution", "law"), [*LAWS, (SignedConstant(), stats.norm(scale=math.sqrt(2 / 40)))])
def test_a_sign_of_a_draw_is_the_deviation_with_the_sign_of_each_weight(distribution, law):
    weights, signs = draw(distribution, 500), draw(SignOf(distribution), 500)
    for weight, sign in zip(weights, signs, strict=True):
        assert sign == pytest.approx(law.std() if weight >= 0 else -law.std(), rel=1e-12)


def test_a_sign_of_a_draw_says_whose_sign_it_is():
    described = SignOf(Uniform(0.5)).describe()
    assert described == {"name": "sign_of", "of": {"name": "uniform", "bound": 0.5}}
    assert from_description(described) == SignOf(Uniform(0.5)) != SignOf(Uniform(0.6))


@pytest.mark.parametrize("of", [None, "uniform", {}, SignOf()], ids=str)
def test_a_sign_of_what_is_no_other_distribution_is_refused(of):
    with pytest.raises(SupermaskError, match=r"sign_of has of=.*; it must be a distribution other than sign_of"):
        SignOf(of)


def test_a_description_that_goes_on_for_ever_is_refused():
    described = {"name": "uniform", "bound": 1.0}
    for _ in range(5000):
        described = {"name": "sign_of", "of": described}
    with pytest.raises(SupermaskError, match="sign_of has of="):
        from_description(described)


@pytest.mark.parametrize(
    ("distribution", "size"),
    [
        (SignedConstant(), math.sqrt(2.0) / math.sqrt(40)),
        (SignedConstant(mode="fan_out"), math.sqrt(2.0) / math.sqrt(10)),
        (SignedConstant(gain=0.25), 0.25 / math.sqrt(40)),
    ],
    ids=str,
)
def test_a_signed_constant_is_exactly_its_standard_deviation_with_either_sign(distribution, size):
    weights = draw(distribution, 100_000)
    assert np.array_equal(np.abs(weights), np.full(100_000, size))
    assert stats.binomtest(int((weights > 0).sum()), weights.size).pvalue > ALARM


def test_signs_of_neighbours_are_independent():
    signs = draw(SignedConstant(), 200_000) > 0
    agree = signs[::2] == signs[1::2]
    assert stats.binomtest(int(agree.sum()), agree.size).pvalue > ALARM


def test_truncation_at_two_leaves_0_880_of_the_standard_deviation():
    assert stats.truncnorm(-2, 2).std() == pytest.approx(0.880, abs=5e-4)
    assert TruncatedNormal().std(FANS) == math.sqrt(2.0) / math.sqrt(40)


def test_the_gain_is_that_of_a_rectified_linear_unit():
    assert math.sqrt(2.0) == RELU_GAIN
    assert {kind().gain for kind in (SignedConstant, KaimingNormal, KaimingUniform, TruncatedNormal)} == {RELU_GAIN}
    assert {kind().gain for kind in (XavierNormal, XavierUniform)} == {1.0}


@pytest.mark.parametrize("kind", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("count", [0, 1, 65])
def test_a_draw_has_the_length_that_was_asked(kind, count):
    assert draw(kind(), count).shape == (count,)


@pytest.mark.parametrize("kind", KNOWN.values(), ids=KNOWN)
def test_a_longer_draw_begins_with_the_shorter(kind):
    assert np.array_equal(draw(kind(), 100), draw(kind(), 300)[:100])


# ---- names and descriptions


@pytest.mark.parametrize("distribution", [*[kind() for kind in KNOWN.values()], *[one for one, _ in LAWS]], ids=str)
def test_a_description_is_read_back(distribution):
    assert from_description(distribution.describe()) == distribution


@pytest.mark.parametrize("kind", KNOWN.values(), ids=KNOWN)
def test_a_name_stands_for_the_defaults(kind):
    assert named(kind.name) == kind() == named(kind())


def test_a_description_is_plain_and_complete():
    described = {"name": "truncated_normal", "gain": 2.0, "mode": "fan_out", "cut": 1.5}
    assert TruncatedNormal(gain=2.0, mode="fan_out", cut=1.5).describe() == described


def test_a_distribution_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Uniform().bound = 2.0


def test_an_unknown_name_is_answered_with_the_known():
    with pytest.raises(SupermaskError, match="Unknown distribution 'gaussian'; known are") as caught:
        named("gaussian")
    assert all(name in str(caught.value) for name in KNOWN)


@pytest.mark.parametrize("bad", [0, 0.0, -1.0, math.inf, -math.inf, math.nan, "1", None, True])
@pytest.mark.parametrize(
    ("kind", "field"),
    [
        *[(kind, "gain") for kind in KNOWN.values() if kind not in (Uniform, UniformInteger, SignOf)],
        (Uniform, "bound"),
        (UniformInteger, "bound"),
        (TruncatedNormal, "cut"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_parameter_that_is_no_positive_number_is_refused_by_name(kind, field, bad):
    with pytest.raises(SupermaskError) as caught:
        kind(**{field: bad})
    assert str(caught.value) == f"{kind.name} has {field}={bad!r}; it must be a positive number."


@pytest.mark.parametrize("mode", ["fan_avg", "", None, 1])
@pytest.mark.parametrize("kind", [SignedConstant, KaimingNormal, KaimingUniform, TruncatedNormal])
def test_an_unknown_mode_is_refused_with_the_known(kind, mode):
    with pytest.raises(SupermaskError, match=f"{kind.name} has mode .* must be 'fan_in' or 'fan_out'"):
        kind(mode=mode)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, "Unknown distribution 'None'"),
        ({"name": "gaussian"}, "Unknown distribution 'gaussian'"),
        ({"name": "uniform", "gain": 1.0}, "uniform does not take {'gain': 1.0}"),
        ({"name": "uniform", "bound": -1.0}, "bound=-1.0"),
        ({"name": "sign_of", "of": {"name": "gaussian"}}, "Unknown distribution 'gaussian'"),
        ({"name": "sign_of", "of": {}}, "Unknown distribution 'None'"),
    ],
)
def test_a_description_of_nothing_known_is_refused(description, message):
    with pytest.raises(SupermaskError, match=message):
        from_description(description)
