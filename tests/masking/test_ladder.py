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
    "lenet_300_100": "100 80.04 64.06 51.28 41.05 32.87 26.32 21.07 16.88 13.52 10.83 8.68 6.95 5.57 4.47 3.58 2.87",
    "conv2": "100 80.10 64.16 51.41 41.20 33.02 26.47 21.23 17.03 13.66 10.97 8.81 7.08 5.69 4.57 3.68 2.97 2.39 1.93",
    "conv4": "100 81.08 65.84 53.55 43.63 35.61 29.13 23.88 19.62 16.16 13.35 11.06 9.18 7.65 6.40 5.37 4.51 3.81",
    "conv6": "100 82.54 68.20 56.39 46.68 38.67 32.07 26.61 22.11 18.38 15.29 12.74 10.62 8.86 7.39 6.18 5.17 4.32",
    "resnet20": "100 80.24 64.43 51.78 41.66 33.56 27.09 21.91 17.76 14.44 11.79",
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
        assert 100 * protocol.weights_remaining(shapes, rounds) == pytest.approx(float(label), abs=0.0051)


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
