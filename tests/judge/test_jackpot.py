"""The five conditions on made-up accuracies: each one fails alone."""

from dataclasses import replace

import pytest
from scipy import stats

from supermask import SupermaskError
from supermask.judge import jackpot
from supermask.judge.jackpot import SIMILAR, Comparison, Measured, Sweep

RATES = (0.01, 0.1)


def sweep(*percent, test=None, spread=0.0):
    """Return accuracies at each rate: three runs about a mean in per cent, the same for both parts if not said."""

    def part(values):
        return {rate: [(v - spread) / 100, v / 100, (v + spread) / 100] for rate, v in zip(RATES, values, strict=True)}

    return Sweep(part(percent), part(test or percent))


# a ticket at its best at the small rate, where it is above everything
WINS = {
    "ticket": sweep(92.0, 90.0),
    "reinitialised": sweep(89.0, 90.5),
    "dense": sweep(91.0, 92.2),
    "small_dense": sweep(88.0, 89.0),
}
NO_GAIN = {"ticket": sweep(92.2, 90.0), "dense": sweep(91.0, 92.7)}


def judged(changes=None, **options):
    return jackpot({**WINS, **(changes or {})}, **{"sparsity": 0.83, "doubled": NO_GAIN, **options})


def states(found):
    return [condition.holds for condition in found.conditions]


def test_a_ticket_that_meets_all_conditions_wins_the_jackpot():
    found = judged()
    assert states(found) == ["yes"] * 5
    assert found.verdict == "jackpot"
    assert [condition.witness for condition in found.conditions] == [0.1, 0.01, 0.01, 0.01, 0.01]
    third = found.conditions[2].comparison
    assert (third.ours.rate, third.theirs.rate) == (0.01, 0.1)
    assert third.difference == pytest.approx(0.015)
    assert found.text() == "sparsity 83.0 %: jackpot; conditions: 1 yes, 2 yes, 3 yes, 4 yes, 5 yes"
    assert found.conditions[4].line() == (
        "5. similar to dense at any rate: yes (ticket 92.00 % at rate 0.01 - dense 92.20 % at rate 0.1 = -0.20 ± 0.00"
        " points, wanted >= -0.5)"
    )


ALONE = {
    "trivial sparsity": (1, {}, {"sparsity": 0.5}),
    "training too short for the ticket": (1, {}, {"doubled": {"ticket": sweep(92.6, 90.0)}}),
    "training too short for the dense network": (1, {}, {"doubled": {**NO_GAIN, "dense": sweep(91.0, 92.8)}}),
    "small dense as good": (2, {"small_dense": sweep(88.0, 91.5)}, {}),
    "reinitialised as good at its own rate": (3, {"reinitialised": sweep(89.0, 91.5)}, {}),
    "dense better at any rate": (5, {"dense": sweep(91.0, 92.6)}, {}),
}


@pytest.mark.parametrize(("number", "changes", "options"), ALONE.values(), ids=ALONE)
def test_each_condition_fails_alone(number, changes, options):
    found = judged(changes, **options)
    assert states(found) == ["no" if each == number else "yes" for each in range(1, 6)]
    assert found.verdict == ("secondary prize" if number == 5 else "none")


def test_the_fourth_condition_can_fail_alone_only_against_the_fifth():
    """A dense network that is better at each rate of the ticket is met by a ticket of a rate that it was not given."""
    ticket = Sweep({0.05: [0.92]}, {0.05: [0.92]})
    dense = Sweep({0.05: [0.93], 0.1: [0.931]}, {0.05: [0.93], 0.1: [0.921]})
    found = jackpot({**WINS, "ticket": ticket, "dense": dense}, sparsity=0.83, doubled={"ticket": ticket})
    assert states(found) == ["yes", "yes", "yes", "no", "yes"]
    assert found.verdict == "none"


def test_the_rate_is_chosen_on_validation_and_judged_on_test():
    # on the test part the large rate would win, on validation it does not
    lucky = sweep(92.0, 91.0, test=(89.0, 93.0))
    found = judged({"ticket": lucky}, doubled={"ticket": lucky})
    assert [condition.comparison.ours.mean for condition in found.conditions[1:]] == pytest.approx([0.89] * 4)
    assert found.verdict == "none"
    # and the reinitialised network is not judged by its best test accuracy either
    unlucky = sweep(91.0, 89.0, test=(90.0, 91.9))
    assert judged({"reinitialised": unlucky}).conditions[2].comparison.theirs.mean == pytest.approx(0.90)


def test_the_fourth_condition_compares_at_one_rate():
    found = judged({"ticket": sweep(90.0, 92.0), "dense": sweep(89.0, 93.0)})
    fourth = found.conditions[3]
    assert (fourth.witness, fourth.comparison.theirs.rate) == (0.01, 0.01)
    assert (fourth.holds, found.conditions[4].holds) == ("yes", "no")


@pytest.mark.parametrize(("tolerance", "holds"), [(SIMILAR["cifar10"], "no"), (SIMILAR["cifar100"], "yes")])
def test_what_is_similar_depends_on_the_data(tolerance, holds):
    assert judged({"dense": sweep(91.0, 92.9)}, similar=tolerance).conditions[4].holds == holds


def test_limits_are_exact_in_points():
    one, other = Measured("a", 0.1, (0.9,)), Measured("b", 0.1, (0.905,))
    assert Comparison(one, other, -0.005, strict=False).holds
    assert not Comparison(other, one, 0.005, strict=True).holds
    assert not Comparison(one, replace(other, accuracies=(0.9051,)), -0.005, strict=False).holds


@pytest.mark.parametrize(("dense", "verdict"), [(92.2, "jackpot"), (92.4, "at boundary"), (92.6, "at boundary")])
def test_a_difference_whose_interval_holds_the_limit_is_at_the_boundary(dense, verdict):
    # three runs of spread .1 have an interval of 2.78 * .1 * sqrt(2 / 3) = .23 points
    runs = {"ticket": sweep(92.0, 90.0, spread=0.1), "dense": sweep(91.0, dense, spread=0.1)}
    assert judged(runs, doubled={"ticket": runs["ticket"]}).verdict == verdict
    far = judged({**runs, "dense": sweep(91.0, 92.8, spread=0.1)}, doubled={"ticket": runs["ticket"]})
    assert far.verdict == "secondary prize"


def test_the_interval_is_welchs():
    first, second = (0.91, 0.92, 0.935), (0.90, 0.93)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    found = Comparison(Measured("a", 0.1, first), Measured("b", 0.1, second), 0.0, strict=True)
    assert found.half_width == pytest.approx((expected.high - expected.low) / 2)
    assert found.difference == pytest.approx((expected.high + expected.low) / 2)


def test_a_single_run_has_no_boundary():
    one = {
        name: Sweep({0.1: [accuracy]}, {0.1: [accuracy]})
        for name, accuracy in {"ticket": 0.92, "dense": 0.925, "reinitialised": 0.9, "small_dense": 0.9}.items()
    }
    assert jackpot(one, sparsity=0.83, doubled={"ticket": one["ticket"]}).verdict == "jackpot"


def test_what_was_not_measured_is_undecided_unless_another_condition_fails():
    found = judged(doubled=None)
    assert (found.verdict, found.otherwise) == ("undecided", "jackpot")
    assert "undecided (jackpot if 1 held); conditions: 1 undecided, 2 yes" in found.text()
    alone = jackpot({"ticket": WINS["ticket"]}, sparsity=0.83)
    assert states(alone) == ["undecided"] * 5
    assert (alone.verdict, alone.otherwise) == ("undecided", "undecided")
    assert judged({"small_dense": sweep(92.0, 92.0)}, doubled=None).verdict == "none"
    elsewhere = Sweep({1.0: [0.9]}, {1.0: [0.9]})
    assert judged({"dense": elsewhere}, doubled=None).conditions[3].holds == "undecided"


def test_values_are_plain():
    values = judged().values()
    assert values["verdict"] == "jackpot"
    assert values["conditions"][4]["theirs"] == {"name": "dense", "rate": 0.1, "mean": pytest.approx(0.922), "runs": 3}
    assert "difference" not in jackpot(WINS, sparsity=0.1).values()["conditions"][0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jackpot({}, sparsity=0.8), "there is no ticket"),
        (lambda: judged({"tiny": sweep(1.0, 2.0)}), "tiny is not known"),
        (lambda: jackpot({"ticket": WINS["ticket"]}, sparsity=0.8, doubled=NO_GAIN), "has no sweep to compare with"),
        (lambda: judged(sparsity=83.0), "sparsity=83.0 is out of range"),
        (lambda: judged(similar=-0.1), "similar=-0.1 and gap=0.005 must be fractions"),
        (lambda: Sweep({0.1: [0.9]}, {0.2: [0.9]}), "other learning rates or numbers of runs"),
        (lambda: Sweep({0.1: [0.9]}, {0.1: [0.9, 0.8]}), "other learning rates or numbers of runs"),
        (lambda: Sweep({0.1: []}, {0.1: []}), "at least one for each learning rate"),
        (lambda: Sweep({0.1: [92.0]}, {0.1: [91.0]}), "fractions from 0 to 1"),
        (lambda: Sweep({0.1: [float("nan")]}, {0.1: [0.9]}), "fractions from 0 to 1"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, message):
    with pytest.raises(SupermaskError, match=message):
        call()
