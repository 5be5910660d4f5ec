"""The ladder of iterative pruning against the papers' formula and labels, with no training."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supermask import SupermaskError, models
from supermask.baselines.rounds.engine import Rounds
from supermask.baselines.sparse import whole_ticket
from supermask.masking.ladder import Ladder
from supermask.runs.protocols import PROTOCOLS

LENET = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
LABELS = {  # Frankle & Carbin 2019, the figures' axes, in per cent; with the round
    "lenet_300_100": {1: 80.0, 3: 51.3, 7: 21.1, 9: 13.5, 11: 8.7, 13: 5.6, 15: 3.6, 17: 2.3, 18: 1.9, 19: 1.5},
    "conv2": {6: 26.5, 10: 11.0, 11: 8.8, 13: 5.7, 14: 4.6},
    "conv4": {11: 11.1, 12: 9.2, 13: 7.7, 15: 5.4},
    "resnet20": {4: 41.7, 6: 27.1, 7: 21.9, 10: 11.8},
}
# the whole ladders, computed by hand from the sizes of the layers; tables and figures print some of their numbers
WHOLE = {
    "lenet_300_100": "100 80.0 64.1 51.3 41.1 32.9 26.3 21.1 16.9 13.5 10.8 8.7 7.0 5.6 4.5 3.6 2.9 2.3 1.9 1.5 1.2",
    "conv2": "100 80.1 64.2 51.4 41.2 33.0 26.5 21.2 17.0 13.7 11.0 8.8 7.1 5.7 4.6 3.7 3.0 2.4 1.9 1.6",
    "conv4": "100 81.1 65.8 53.5 43.6 35.6 29.1 23.9 19.6 16.2 13.4 11.1 9.2 7.7 6.4 5.4 4.5 3.8 3.2 2.8",
    "conv6": "100 82.5 68.2 56.4 46.7 38.7 32.1 26.6 22.1 18.4 15.3 12.7 10.6 8.9 7.4 6.2 5.2 4.3 3.6 3.0",
    "resnet20": "100 80.2 64.4 51.8 41.7 33.6 27.1 21.9 17.8 14.4 11.8",
}
WHOLE |= {f"conv{depth}_dropout": WHOLE[f"conv{depth}"] for depth in (2, 4, 6)}
WHOLE |= {f"resnet20_rate_{rate}": WHOLE["resnet20"] for rate in (0.1, 0.01)}


def shapes_of(protocol):
    ticket = whole_ticket(models.build(protocol.job.model), seed=0, dense=protocol.job.search.dense)
    return {name: ticket.weights[name].shape for name in ticket.masks}


@pytest.mark.parametrize(
    "name", [name for name, protocol in PROTOCOLS.items() if isinstance(protocol.job.algorithm, Rounds)]
)
def test_twenty_rounds_are_the_papers_formula_to_one_weight(name):
    protocol = PROTOCOLS[name]
    shapes, options = shapes_of(protocol), protocol.job.algorithm
    if name == "lenet_300_100":
        sizes = {layer: (size, Fraction(4, 5)) for layer, size in zip(shapes, (235_200, 30_000), strict=False)}
        sizes["fc3.weight"] = (1000, Fraction(9, 10))
    else:
        conv = Fraction(str(getattr(options, "conv_rate", None) or options.rate))
        sizes = {}
        for layer, shape in shapes.items():
            size = 1
            for side in shape:
                size *= side
            sizes[layer] = (size, 1 - (conv if len(shape) == 4 else Fraction(1, 5)))
        if getattr(options, "output_rate", None):
            sizes[layer] = (size, 1 - Fraction(str(options.output_rate)))
    before = {layer: size for layer, (size, _) in sizes.items()}
    for rounds in range(21):
        exact = {layer: size * left**rounds for layer, (size, left) in sizes.items()}
        kept = protocol.ladder.kept(shapes, rounds)
        assert abs(sum(kept.values()) - sum(exact.values())) <= Fraction(1, 2)
        assert all(abs(kept[layer] - exact[layer]) < 1 for layer in exact)
        assert all(kept[layer] <= before[layer] for layer in kept)
        before = kept


@pytest.mark.parametrize("name", LABELS)
def test_weights_remaining_are_the_labels_of_the_papers_figures(name):
    protocol = PROTOCOLS[name]
    shapes = shapes_of(protocol)
    for rounds, label in LABELS[name].items():
        assert 100 * protocol.weights_remaining(shapes, rounds) == pytest.approx(label, abs=0.0501)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_ladders_are_the_papers(name):
    protocol, labels = PROTOCOLS[name], WHOLE[name].split()
    shapes = shapes_of(protocol)
    assert len(labels) <= protocol.rounds + 1
    for rounds, label in enumerate(labels):
        assert 100 * protocol.weights_remaining(shapes, rounds) == pytest.approx(float(label), abs=0.0501)


def test_the_numbers_of_lenet_are_those_of_the_formula_in_closed_form():
    ladder = PROTOCOLS["lenet_300_100"].ladder
    for rounds in range(21):
        expected = 265_200 * 0.8**rounds + 1000 * 0.9**rounds
        assert abs(sum(ladder.kept(LENET, rounds).values()) - expected) <= 0.5 + 1e-6


@given(density=st.floats(0.001, 1.0), rate=st.floats(0.05, 0.9), output=st.floats(0.05, 0.9))
def test_rounds_to_a_density_leave_exactly_that_many_weights(density, rate, output):
    ladder = Ladder(rate, output_rate=output)
    rounds = ladder.rounds_to(LENET, density)
    assert sum(ladder.kept(LENET, rounds).values()) == pytest.approx(density * 266_200, abs=0.51)


@pytest.mark.parametrize("rounds", [0, 1, 7, 20])
def test_the_density_of_whole_rounds_takes_whole_rounds(rounds):
    ladder = Ladder(0.2, output_rate=0.1)
    assert ladder.rounds_to(LENET, ladder.density(LENET, rounds)) == rounds


def test_one_ranking_is_one_pool_that_may_empty_a_layer():
    (pool,) = Ladder(0.2, whole=True).pools(LENET, 3)
    assert (pool.names, pool.kept, pool.floor) == (tuple(LENET), round(266_200 * 0.8**3), 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rate": 0.0}, "rate=0.0"),
        ({"conv_rate": 1.0}, "conv_rate=1.0"),
        ({"whole": True, "output_rate": 0.1}, "one rate"),
    ],
)
def test_rates_that_prune_nothing_or_everything_are_refused(options, says):
    with pytest.raises(SupermaskError, match=says):
        Ladder(**options)


@pytest.mark.parametrize("density", [0.0, 1e-7, 1.5])
def test_a_density_without_a_weight_is_refused(density):
    with pytest.raises(SupermaskError, match="cannot reach density"):
        Ladder().rounds_to(LENET, density)
