"""The stream of random words is the published generator, pinned word for word, and its numbers follow their laws.

Each statistical test has fixed seeds, so it always gives the same answer; `ALARM` is the chance that a sound generator
would fail it, had the seeds been drawn at random.
"""

import hashlib
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from supermask.random.stream import Stream, exact_log, normal_quantile

ALARM = 1e-6
LABELS = st.tuples(st.integers(0, 2**63 - 1), st.text(st.characters(codec="utf-8", exclude_characters="\0")))


def stream(seed=7, name="layer", purpose="weights"):
    return Stream(seed, name, purpose)


def fingerprint(numbers):
    return hashlib.sha256(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()).hexdigest()


# ---- the words


def philox(counter, key):
    """Philox4x64-10 as Salmon et al. 2011 print it, in integers without a limit."""
    low = 2**64 - 1
    for _ in range(10):
        first, third = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = (third >> 64) ^ counter[1] ^ key[0], third & low, (first >> 64) ^ counter[3] ^ key[1], first & low
        key = (key[0] + 0x9E3779B97F4A7C15) & low, (key[1] + 0xBB67AE8584CAA73B) & low
    return counter


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        (
            (0,) * 4,
            (0,) * 2,
            (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
        ),
        (
            (2**64 - 1,) * 4,
            (2**64 - 1,) * 2,
            (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
        ),
        (
            (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
            (0x452821E638D01377, 0xBE5466CF34E90C6C),
            (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
        ),
    ],
)
def test_the_textbook_generator_gives_its_authors_known_answers(counter, key, words):
    assert philox(counter, key) == words


@settings(max_examples=50, deadline=None)
@given(LABELS, st.sampled_from(["weights", "scores"]))
def test_the_words_are_those_of_the_textbook_generator(label, purpose):
    seed, name = label
    digest = hashlib.blake2b(f"{seed}\0{purpose}\0{name}".encode(), digest_size=16, person=b"supermask").digest()
    key = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    # numpy counts before it draws: the first block is that of counter 1
    expected = [word for block in (1, 2, 3) for word in philox((block, 0, 0, 0), key)]
    assert Stream(seed, name, purpose).words(12).tolist() == expected


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (
            (0, "fc1.weight", "weights"),
            [0x92A79A7F78272B96, 0x780F5B17C626D5A8, 0xD8FD771DE28126DA, 0x6781DFCFBD5EEC00, 0x6238A1FF802F56EF],
        ),
        (
            (0, "fc1.weight", "scores"),
            [0x2EDEFC28270C6CA3, 0x2CE55A5C803B6C6A, 0x803C695FEC666B38, 0x455763E897DE684E, 0x155E24DABE6EDAC3],
        ),
        (
            (2**63 - 1, "größe", "weights"),
            [0x7F18BF8209200737, 0xDE8349A0B06C77C9, 0xBBA3B3772D3159B7, 0x8606C9330723C6C8, 0x8B45FF92A88AD39E],
        ),
    ],
)
def test_the_words_never_change(label, words):
    assert Stream(*label).words(5).tolist() == words


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda: stream().words(1000), "63c68663fe2590c825a123cedc39de54d8a4cb28a57e761da792983276487467"),
        (lambda: stream().bits(1000), "7426ee243e4827fb132bb64f74fac35a48f8e10758dfe7ed3d1d2422f03bf42e"),
        (lambda: stream().uniform(1000), "daef7cb308e5e78f29b7982a1c0e73dd29b87dc3dda5c56dc0db79f14f7b7025"),
        (lambda: stream().normal(1000), "1f200ca3883443d204ebbe97f5427d69c62c2ad2f007157ee0695da1b5b61452"),
        (
            lambda: stream().truncated_normal(1000, 2.0),
            "d10abf32dbc64c15b832f8daa7991c2e4b45cb1e92edec226dfb0f3475375aa1",
        ),
    ],
    ids=["words", "bits", "uniform", "normal", "truncated_normal"],
)
def test_no_bit_of_any_number_ever_changes(draw, expected):
    assert fingerprint(draw()) == expected


@settings(max_examples=100, deadline=None)
@given(LABELS, LABELS)
def test_each_seed_name_and_purpose_has_a_stream_of_its_own(one, other):
    firsts = {
        (label, purpose): Stream(*label, purpose).words(2).tobytes()
        for label in (one, other)
        for purpose in ("weights", "scores")
    }
    assert len(set(firsts.values())) == len(firsts)


def test_a_digit_that_moves_from_the_seed_to_the_name_makes_another_stream():
    assert Stream(12, "3", "weights").words(1) != Stream(1, "23", "weights").words(1)


# ---- one draw or several


@pytest.mark.parametrize("kind", ["words", "uniform", "normal"])
@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 50), max_size=5))
def test_numbers_are_the_same_at_once_and_in_parts(kind, sizes):
    parted, whole = stream(), stream()
    parts = [number for size in sizes for number in getattr(parted, kind)(size).tolist()]
    assert parts == getattr(whole, kind)(sum(sizes)).tolist()


@pytest.mark.parametrize("cut", [0.5, 2.0])
@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 200), max_size=5))
def test_truncated_normals_are_the_same_at_once_and_in_parts(cut, sizes):
    parted, whole = stream(), stream()
    parts = [number for size in sizes for number in parted.truncated_normal(size, cut).tolist()]
    assert parts == whole.truncated_normal(sum(sizes), cut).tolist()


@pytest.mark.parametrize("kind", ["words", "uniform", "normal", "bits"])
def test_a_longer_draw_begins_with_the_shorter(kind):
    # 70,000 is more than is made at a time
    long = getattr(stream(), kind)(70_000)
    for count in (0, 1, 63, 64, 65, 65_536, 65_537):
        assert np.array_equal(getattr(stream(), kind)(count), long[:count])


def test_bits_are_those_of_the_words_lowest_first():
    words = stream().words(3).tolist()
    assert stream().bits(150).tolist() == [words[i // 64] >> (i % 64) & 1 for i in range(150)]


def test_bits_that_do_not_fill_a_word_leave_the_next_word_whole():
    drawn = stream()
    drawn.bits(1)
    assert drawn.words(1) == stream().words(2)[1]


@pytest.mark.parametrize("cut", [0.01, 0.5, 2.0, 6.0])
def test_truncated_normals_are_the_normals_that_fall_inside_the_cut(cut):
    normals = stream().normal(3 * 65_536)
    inside = normals[np.abs(normals) <= cut]
    for count in (0, 1, 1000):
        assert np.array_equal(stream().truncated_normal(count, cut), inside[:count])


# ---- the laws


def test_uniforms_are_odd_multiples_of_half_a_step():
    steps = stream().uniform(10_000) * 2.0**53
    assert np.all(steps % 2 == 1)
    assert steps.min() > 0
    assert steps.max() < 2.0**53


@pytest.mark.parametrize(("word", "expected"), [(0, 2.0**-53), (2**64 - 1, 1 - 2.0**-53), (2**63, 0.5 + 2.0**-53)])
def test_uniforms_reach_neither_end(monkeypatch, word, expected):
    drawn = stream()
    monkeypatch.setattr(drawn, "words", lambda count: np.full(count, word, np.uint64))
    assert drawn.uniform(1) == expected


def test_bits_are_fair():
    bits = stream().bits(1_000_000)
    assert stats.binomtest(int(bits.sum()), bits.size).pvalue > ALARM


@pytest.mark.parametrize(
    ("draw", "law"),
    [
        (lambda: stream().uniform(100_000), stats.uniform()),
        (lambda: stream().normal(100_000), stats.norm()),
        (lambda: stream().truncated_normal(100_000, 2.0), stats.truncnorm(-2, 2)),
        (lambda: stream().truncated_normal(50_000, 0.3), stats.truncnorm(-0.3, 0.3)),
    ],
    ids=["uniform", "normal", "cut at 2", "cut at 0.3"],
)
def test_numbers_follow_their_law(draw, law):
    assert stats.kstest(draw(), law.cdf).pvalue > ALARM


def test_neighbours_in_a_stream_are_independent():
    drawn = stream().uniform(100_000)
    for lag in (1, 2, 3, 4, 8):
        # each pair enters once; the difference modulo 1 of independent uniforms is uniform
        pairs = drawn[: drawn.size // (2 * lag) * 2 * lag].reshape(-1, 2, lag)
        assert stats.kstest((pairs[:, 1] - pairs[:, 0]).ravel() % 1.0, "uniform").pvalue > ALARM


RELATIVES = [
    (0, "fc1.weight", "weights"),
    (0, "fc1.weight", "scores"),
    (0, "fc2.weight", "weights"),
    (0, "fc1.weighu", "weights"),
    (1, "fc1.weight", "weights"),
    (2**62, "fc1.weight", "weights"),
]


@pytest.mark.parametrize("other", RELATIVES[1:], ids=str)
def test_streams_of_another_seed_name_or_purpose_are_independent(other):
    first, second = Stream(*RELATIVES[0]), Stream(*other)
    agree = first.bits(1_000_000) == second.bits(1_000_000)
    assert stats.binomtest(int(agree.sum()), agree.size).pvalue > ALARM
    assert stats.kstest((first.uniform(50_000) - second.uniform(50_000)) % 1.0, "uniform").pvalue > ALARM


@pytest.mark.parametrize("count", [20_000])
def test_consecutive_seeds_give_independent_first_numbers(count):
    firsts = np.array([Stream(seed, "w", "weights").uniform(1)[0] for seed in range(count)])
    assert stats.kstest(firsts, "uniform").pvalue > ALARM
    assert stats.kstest((firsts[1::2] - firsts[::2]) % 1.0, "uniform").pvalue > ALARM


# ---- exact functions


def probabilities():
    tails = 10.0 ** -np.linspace(0.31, 307, 20_001)
    seams = np.exp(-25.0 * np.linspace(0.99, 1.01, 1001))  # where the two approximations of the tail meet
    powers = 2.0 ** -np.arange(2, 53)
    centre = 0.5 + np.linspace(-0.45, 0.45, 20_001)
    return np.concatenate([tails, seams, powers, 1.0 - powers, 0.5 + powers, 0.5 - powers, centre, 1 - tails[:1000]])


def test_the_normal_quantile_is_right_to_1e_14_everywhere():
    p = probabilities()
    np.testing.assert_allclose(normal_quantile(p), special.ndtri(p), rtol=1e-14, atol=0.0)


def test_the_normal_quantile_is_odd_about_one_half_and_rises():
    p = np.sort(stream().uniform(10_000))
    # uniforms are symmetric: 1 - p is exact
    assert np.array_equal(normal_quantile(1.0 - p), -normal_quantile(p))
    assert all(low <= high for low, high in pairwise(normal_quantile(p)))


@settings(max_examples=300, deadline=None)
@given(
    st.floats(2.2250738585072014e-308, 1.7976931348623157e308)
    | st.floats(0.5, 2.0)
    | st.floats(1 - 1e-6, 1 + 1e-6)
    | st.floats(2.0**-53, 0.1)
)
def test_the_logarithm_is_right_within_3_ulp(x):
    with localcontext(prec=60):
        truth = Decimal(x).ln()
        error = abs(Decimal(float(exact_log(np.array([x]))[0])) - truth)
        assert error <= 3 * Decimal(float(np.spacing(abs(float(truth)))))


@pytest.mark.parametrize("power", [-1022, -52, -1, 0, 1, 52, 1023])
def test_the_logarithm_of_a_power_of_two(power):
    assert exact_log(np.array([2.0**power]))[0] == pytest.approx(power * np.log(2.0), rel=1e-15, abs=0.0)
