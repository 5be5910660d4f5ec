"""Each verdict says yes, no and undecided where it should, at the thresholds of its paper."""

import json

import pytest
from made_up_runs import by_name, result, trial

from supermask.judge import verdicts

DENSE = [0.90, 0.91, 0.92, 0.93]
SHIFTS = {"clearly": [0.030, 0.031, 0.029, 0.030], "hardly": [0.03, -0.03, 0.02, 0.0]}


def judged(networks, **more):
    return {(verdict.claim, verdict.state): verdict for verdict in verdicts(by_name(trial(networks, **more)))}


def shifted(by):
    return [accuracy + shift for accuracy, shift in zip(DENSE, by, strict=True)]


@pytest.mark.parametrize(
    ("by", "matching", "winning"),
    [
        ([0.010, 0.011, 0.009, 0.010], "yes", "yes"),
        ([0.0, 0.0, 0.0, 0.0], "yes", "undecided"),  # equal to one test image
        ([-0.0010, -0.0011, -0.0009, -0.0010], "yes", "no"),  # within 0.2 points, and worse
        ([-0.0030, -0.0031, -0.0029, -0.0030], "no", "no"),
        ([-0.0020, -0.0021, -0.0019, -0.0020], "undecided", "no"),
        ([0.03, -0.03, 0.02, 0.0], "undecided", "undecided"),
    ],
)
def test_a_ticket_against_the_dense_network(by, matching, winning):
    found = judged({"ticket": shifted(by), "dense": DENSE})
    assert found["matching", "trained"].holds == matching
    assert found["winning", "trained"].holds == winning
    assert found["matching", "trained"].comparisons[0].threshold == -0.002
    assert found["winning", "trained"].comparisons[0].threshold == 0.0


def test_differences_of_one_test_image_decide_nothing():
    equal = {"ticket": [0.9, 0.8], "dense": [0.903, 0.803]}
    assert judged(equal, total=360)["matching", "trained"].holds == "undecided"
    assert judged(equal, total=10_000)["matching", "trained"].holds == "no"


@pytest.mark.parametrize(
    ("stops", "holds"),
    [([30, 30, 40, 30], "yes"), ([50] * 4, "yes"), ([70, 70, 60, 70], "no"), ([30, 60, 50, 50], "undecided")],
)
def test_a_winning_ticket_stops_no_later(stops, holds):
    ticket = [result("ticket", seed, 0.9 + seed / 100, stop=stop) for seed, stop in enumerate(stops)]
    dense = [result("dense", seed, 0.8 + seed / 99, parameters=100) for seed in range(4)]
    found = {verdict.claim: verdict for verdict in verdicts({"ticket": ticket, "dense": dense})}
    assert found["winning"].holds == holds
    assert [each.unit for each in found["winning"].comparisons] == ["points", "steps"]
    assert found["matching"].holds == "yes"


def test_a_winning_ticket_has_fewer_weights():
    ticket = [result("ticket", seed, 0.9, parameters=100) for seed in range(3)]
    dense = [result("dense", seed, 0.8, parameters=100) for seed in range(3)]
    found = {verdict.claim: verdict for verdict in verdicts({"ticket": ticket, "dense": dense})}
    assert found["winning"].holds == "no"
    assert "no fewer weights than the dense" in found["winning"].line()


def test_without_validation_examples_nobody_has_won():
    found = judged({"ticket": shifted(SHIFTS["clearly"]), "dense": DENSE}, validation=0)
    assert found["winning", "trained"].holds == "undecided"
    assert found["winning", "trained"].reason == "without validation examples there is no early stop"
    worse = judged({"ticket": [0.1] * 4, "dense": DENSE}, validation=0)
    assert worse["winning", "trained"].holds == "no"
    assert "ticket - dense" in worse["winning", "trained"].reason


CHECKS = ["reinitialised", "shuffled_in_layers", "inverted"]
MASKS = ["random_uniform", "random_erk", "random_smart_ratio"]


@pytest.mark.parametrize(("claim", "names"), [("passes the sanity checks", CHECKS), ("beats random masks", MASKS)])
def test_the_ticket_is_above_every_control(claim, names):
    ticket = shifted(SHIFTS["clearly"])
    below = dict.fromkeys(names, DENSE)
    assert judged({"ticket": ticket, **below})[claim, "trained"].holds == "yes"
    for name in names:  # each of them can spoil it
        assert judged({"ticket": ticket, **below, name: ticket})[claim, "trained"].holds == "undecided"
        close = [accuracy - shift for accuracy, shift in zip(ticket, SHIFTS["hardly"], strict=True)]
        spoiled = judged({"ticket": ticket, **below, name: close})[claim, "trained"]
        assert spoiled.holds == "undecided"
        assert name in spoiled.reason
    fewer = judged({"ticket": ticket, names[0]: DENSE})[claim, "trained"]
    assert (fewer.holds, len(fewer.comparisons)) == ("yes", 1)


def test_other_controls_are_no_part_of_a_claim():
    found = judged({"ticket": DENSE, "shuffled_globally": DENSE, "small_dense": DENSE})
    assert not found


def test_one_seed_decides_nothing():
    networks = {"ticket": [0.9], "reinitialised": [0.1], "random_erk": [0.1], "dense": [0.5]}
    found = judged(networks)
    assert len(found) == 4
    for verdict in found.values():
        assert (verdict.holds, verdict.n) == ("undecided", 1)
        assert "one seed has no interval" in verdict.line()


def test_a_strong_ticket_is_judged_untrained_too():
    """Its untrained accuracy of 0.1 is far below dense, and no better than that of its controls."""
    networks = {"ticket": shifted(SHIFTS["clearly"]), "reinitialised": DENSE, "random_erk": DENSE, "dense": DENSE}
    found = judged(networks, strong=True)
    assert {state for _, state in found} == {"untrained", "trained"}
    assert ("winning", "untrained") not in found
    for claim in ("matching", "passes the sanity checks", "beats random masks"):
        assert found[claim, "trained"].holds == "yes"
        assert found[claim, "untrained"].holds == ("no" if claim == "matching" else "undecided")
    assert {state for _, state in judged(networks)} == {"trained"}


def test_a_verdict_is_plain_values_with_its_thresholds():
    found = judged({"ticket": shifted(SHIFTS["clearly"]), "dense": DENSE})
    values = json.loads(json.dumps(found["matching", "trained"].values(), allow_nan=False))
    assert values["threshold"] == {"ticket - dense": {"least": -0.002, "strict": False}}
    assert values["measured"]["ticket - dense"]["difference"] == pytest.approx(0.03)
    assert values["measured"]["ticket - dense"]["p"] == 0.125
    assert (values["claim"], values["holds"], values["n"], values["source"]) == (
        "matching",
        "yes",
        4,
        "Frankle et al. 2020",
    )
    line = "matching, trained: yes (ticket - dense = +3.00 ± 0.13 points, wanted >= -0.2; 4 seeds; Frankle et al. 2020)"
    assert found["matching", "trained"].line() == line
    json.dumps(judged({"ticket": [0.9], "dense": [0.8]})["matching", "trained"].values(), allow_nan=False)
