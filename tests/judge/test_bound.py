"""Bounds by the length of a file, against closed forms, exact tails and the prefix code that the files are."""

import json
import math
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaincinv, gammaln, logsumexp
from scipy.stats import binom
from torch import nn

from experiments.framework.report import RESULTS
from experiments.registry import EXPERIMENTS
from supermask import EdgePopup, SupermaskError, Ticket, TicketError
from supermask.judge import generalization_bound, label_code_length
from supermask.judge.bound import PUBLISHED, binary_kl, kl_inverse
from supermask.runs import JobResult
from supermask.search import SEARCHES
from supermask.ticket.container import FIXED, PREFIX, Sections, seal, unseal

fractions = st.floats(0.0, 1.0)
TICKETS = sorted(RESULTS.rglob("*.ticket"))
BITS = 8 * (5_539 - 44)  # of mnist.ticket: a mark of seven bytes, one of the format, checksums of 4 and 32


@pytest.fixture(scope="module")
def ticket():
    return EdgePopup(nn.Linear(4, 3), density=0.5, seed=1).ticket()


@pytest.fixture(scope="module")
def larger():
    return EdgePopup(nn.Linear(40, 3), density=0.5, seed=1).ticket()


def bound(ticket, **options):
    return generalization_bound(ticket, **{"train_error": 0.0, "examples": 1_000, **options})


# ---- the formula


def test_without_a_training_error_the_bound_is_that_of_a_closed_form(ticket):
    """(1 - p)^n = delta 2^-bits, for kl(0 || p) = -ln(1 - p): Chernoff's bound is the tail itself."""
    bits = 8 * (len(ticket.to_bytes()) - 44)
    found = bound(ticket, examples=20_000, confidence=0.9)
    assert found.error == pytest.approx(1.0 - (0.1**0.00005) * 2.0 ** (-bits / 20_000), rel=1e-9)
    assert (found.bits, found.examples, found.confidence, found.kl, found.tried) == (bits, 20_000, 0.9, None, 1)


def test_with_half_of_the_examples_wrong_too(ticket):
    """kl(1/2 || p) = -ln(4 p (1 - p)) / 2."""
    bits = 8 * (len(ticket.to_bytes()) - 44)
    nats = (bits * math.log(2) + math.log(20) + math.log(3)) / 9_000
    found = bound(ticket, train_error=0.5, examples=9_000, tried=3)
    assert found.error == pytest.approx((1 + math.sqrt(1 - math.exp(-2 * nats))) / 2, rel=1e-9)


def test_a_tiny_example_by_hand():
    """One error of ten, a prior of 2^-3, delta 1/20: kl(.1 || p) is to be ln(8 * 20) / 10 = .5075.

    kl(.1 || .57) = .1 ln(.1 / .57) + .9 ln(.9 / .43) = -.1740 + .6648 = .4907, kl(.1 || .58) = -.1758 + .6859 = .5101.
    """
    assert math.log(8 * 20) / 10 == pytest.approx(0.5075, abs=5e-5)
    assert binary_kl(0.1, 0.57) == pytest.approx(0.4907, abs=1e-4)
    assert binary_kl(0.1, 0.58) == pytest.approx(0.5101, abs=1e-4)
    assert 0.57 < kl_inverse(0.1, 0.5075) < 0.58


def test_random_masks_are_bounded_by_maurers_formula_over_the_rest_of_the_file(ticket):
    rest = 8 * (len(ticket.to_bytes()) - 44 - len(unseal(ticket.to_bytes()).coded))
    found = bound(ticket, train_error=0.01234, examples=5_000, kl=100.0)
    nats = (100 + rest * math.log(2) + math.log(2 * math.sqrt(5_000) / 0.05)) / 5_000
    assert found.error == pytest.approx(kl_inverse(0.01234, nats), rel=1e-12)
    assert (found.train_error, found.bits, found.kl) == (0.01234, rest, 100.0)


def test_a_training_error_is_rounded_up_to_whole_examples(ticket):
    assert bound(ticket, train_error=1 / 3, examples=3_000).train_error == 1_000 / 3_000
    assert bound(ticket, train_error=0.0101, examples=1_000).train_error == 11 / 1_000
    assert bound(ticket, train_error=0.07, examples=100).train_error == 0.07  # 0.07 * 100 is above 7


@given(error=fractions, nats=st.floats(0.0, 40.0))
def test_the_inverse_is_never_too_small_and_hardly_too_large(error, nats):
    found = kl_inverse(error, nats)
    assert error <= found <= 1.0
    assert found == 1.0 or binary_kl(error, found) > nats
    below = found - 2e-6 - 1e-9 * found  # where kl is flat, at the error itself, its slack of 1e-12 is 1e-6 wide
    assert below <= error or binary_kl(error, below) <= nats


def exact_kl(first, second):
    """Return kl to 50 digits, of two floats as they are."""
    with localcontext(prec=50):
        one, other = Decimal(first), Decimal(second)
        parts = ((one, other), (1 - one, 1 - other))
        return sum((a * (a / b).ln() for a, b in parts if a), Decimal(0))


def test_no_rounding_makes_the_inverse_too_small():
    """Without its slack it is too small in a third of the draws."""
    draw = np.random.Generator(np.random.Philox(5))
    for _ in range(300):
        error, nats = float(draw.random() ** 3), float(10 ** draw.uniform(-6, 0.5))
        found = kl_inverse(error, nats)
        assert found == 1.0 or exact_kl(error, found) >= Decimal(nats)


@pytest.mark.parametrize("count", [1, 2, 5, 20, 60])
def test_the_bound_fails_no_more_often_than_it_says(count):
    """At many true errors, by the exact chances of each number of wrong examples."""
    delta = 0.3
    wrong = np.arange(count + 1)
    bounds = np.array([kl_inverse(each / count, math.log(1 / delta) / count) for each in wrong])
    true = np.linspace(0.001, 0.999, 500)[:, None]
    failed = (binom.pmf(wrong, count, true) * (bounds < true)).sum(1).max()
    assert 0.02 < failed <= delta  # it does fail, and so says something


@pytest.mark.parametrize(("wrong", "count"), [(0, 10), (1, 10), (30, 1_000), (999, 1_000)])
def test_it_is_above_the_exact_tail_of_clopper_and_pearson(wrong, count):
    exact = betaincinv(wrong + 1, count - wrong, 0.95)
    found = kl_inverse(wrong / count, math.log(20) / count)
    assert exact <= found + 1e-12
    assert found - exact < 0.25 / math.sqrt(count)


def test_the_exact_tail_would_hardly_be_tighter():
    """The module says so: 0.03 points at the size of the ticket that is kept, 0.04 at 1,500 bytes."""
    for bits, wrong in ((BITS, 308), (8 * 1_456, 1_200)):
        logs = -bits * math.log(2) + math.log(0.05)
        places = np.arange(wrong + 1)
        ways = gammaln(60_001) - gammaln(places + 1) - gammaln(60_001 - places)
        low, high = wrong / 60_000, 1.0
        for _ in range(60):
            p = (low + high) / 2
            tail = logsumexp(ways + places * math.log(p) + (60_000 - places) * math.log1p(-p))
            low, high = (p, high) if tail >= logs else (low, p)
        found = kl_inverse(wrong / 60_000, -logs / 60_000)
        assert 0 < found - high < 0.0004


@given(st.floats(0.0, 0.9), st.integers(8, 10**6), st.floats(0.5, 0.999))
def test_it_grows_with_what_it_is_made_of(ticket, larger, train_error, examples, confidence):
    options = {"train_error": train_error, "examples": examples, "confidence": confidence}
    first = generalization_bound(ticket, **options)
    assert first.train_error <= first.error <= 1.0
    assert first.error <= generalization_bound(larger, **options).error
    assert first.error <= generalization_bound(ticket, **{**options, "tried": 100}).error
    assert first.error <= generalization_bound(ticket, **{**options, "confidence": 0.9999}).error


# ---- the prior


def test_the_priors_of_all_files_add_up_to_one():
    """Kraft: 2^(8 a + 8 b + 8 c) files have sections of these lengths, and each has 2^-8(20 + a + b + c)."""
    assert FIXED == 44
    lengths = PREFIX - FIXED
    assert lengths == 4 + 8 + 8
    # for each triple of lengths the sections' bits cancel, and so many triples are there
    assert 2 ** (8 * lengths) == 2 ** (8 * 4) * 2 ** (8 * 8) * 2 ** (8 * 8)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40), st.binary(min_size=1, max_size=5))
def test_the_files_are_a_prefix_code_and_their_lengths_and_sections_fix_them(header, coded, learned, more):
    sections = Sections(header, coded, learned)
    data = seal(sections)
    assert len(data) == PREFIX + len(header) + len(coded) + len(learned)
    assert seal(unseal(data)) == data
    with pytest.raises(TicketError, match="follow its end"):
        unseal(data + more)
    with pytest.raises(TicketError):
        unseal(data[: -len(more)])


# ---- the words


def test_it_says_what_it_is_made_of_and_when_it_holds(ticket):
    found = bound(ticket, train_error=0.01, examples=55_000)
    assert "confidence 0.95" in found.text()
    assert "1.00 % of 55,000 training examples" in found.text()
    said = " ".join(found.conditions)
    assert all(word in said for word in ("independent", "without these examples", "0.95"))
    assert "checkpoint" not in said
    assert "4 choices" in " ".join(bound(ticket, tried=4).conditions)
    assert "12.0 nats" in bound(ticket, kl=12.0).text()


def test_over_given_weights_the_checkpoint_is_a_condition():
    found = bound(EdgePopup(nn.Linear(4, 3), density=0.5, weights="given").ticket())
    assert "the checkpoint" in " ".join(found.conditions)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_error": -0.1}, "fraction from 0 to 1"),
        ({"train_error": 1.5}, "fraction from 0 to 1"),
        ({"train_error": math.nan}, "fraction from 0 to 1"),
        ({"examples": 0}, "at least 1"),
        ({"examples": True}, "whole number"),
        ({"examples": 7, "kl": 1.0}, "at least 8"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"confidence": 0.0}, "between 0 and 1"),
        ({"kl": -1.0}, "not negative"),
        ({"kl": math.inf}, "not negative and finite"),
        ({"tried": 0}, "at least 1"),
        ({"tried": 1.5}, "whole number"),
    ],
)
def test_what_is_out_of_range_is_refused(ticket, options, words):
    with pytest.raises(SupermaskError, match=words):
        bound(ticket, **options)


# ---- the code of labels


def test_the_code_of_labels_by_hand(ticket):
    """Four labels to which the network gives 1/2, 1/4, 1/8 and 1 take 1 + 2 + 3 + 0 bits."""
    loss = (math.log(2) + math.log(4) + math.log(8)) / 4
    found = label_code_length(ticket, train_loss=loss, examples=4, classes=8)
    assert found.file_bits == 8 * len(ticket.to_bytes())
    assert found.label_bits == pytest.approx(6.0)
    assert found.bits == pytest.approx(found.file_bits + 6)
    assert found.uniform_bits == 12.0
    assert "published" not in found.table()


def test_all_labels_of_mnist_stand_beside_the_published_codes(ticket):
    found = label_code_length(ticket, train_loss=0.0, examples=60_000)
    assert found.uniform_bits == pytest.approx(199_316, abs=1)
    for published in PUBLISHED.values():
        assert published in found.table()
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(SupermaskError, match="train_loss"):
            label_code_length(ticket, train_loss=wrong, examples=60_000)
    with pytest.raises(SupermaskError, match="classes"):
        label_code_length(ticket, train_loss=0.1, examples=60_000, classes=0)


# ---- the tickets of the project


def test_there_is_a_ticket():
    assert RESULTS / "mnist.ticket" in TICKETS


@pytest.mark.parametrize("path", TICKETS, ids=lambda path: path.stem)
def test_no_ticket_is_worse_than_its_bound(path):
    """Nor than the bound of one without a training error, which is a lower one."""
    ticket = Ticket.load(path)
    error = 1.0 - ticket.provenance["metrics"]["test_accuracy"]
    assert 0.0 < error <= bound(ticket, examples=60_000).error


def results():
    """Yield the stored results of searches for accuracy."""
    for name, experiment in EXPERIMENTS.items():
        path = RESULTS / f"{name}.json"
        if experiment.kind is JobResult and path.exists():
            for group in json.loads(path.read_text())["results"].values():
                found = [JobResult.from_json(values) for values in group]
                yield from (each for each in found if each.config["method"] in SEARCHES and each.test.correct)


def test_no_stored_result_of_a_search_is_worse_than_its_bound():
    """By its validation examples: the bound holds for all files at once, so that they may have chosen one."""
    checked = 0
    for result in results():
        seen = result.validation
        nats = (8 * (result.bytes - FIXED) * math.log(2) + math.log(20)) / seen.total
        assert 1.0 - result.test.accuracy <= kl_inverse(1.0 - seen.accuracy, nats)
        checked += 1
    assert checked >= 100


def test_a_better_file_is_bounded_by_less(ticket):
    """The same network without its provenance, which does not tell it apart, is a shorter file."""
    kept = Ticket.load(RESULTS / "mnist.ticket")
    bare = replace(kept, provenance={})
    assert torch.equal(bare.masks["features.0.weight"], kept.masks["features.0.weight"])
    assert bound(bare, examples=60_000).error < bound(kept, examples=60_000).error - 0.004
