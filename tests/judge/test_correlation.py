"""The indicator R_p against a slow version, its identities, and what chance does to it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from supermask import SupermaskError
from supermask.judge import weight_correlation


def drawn(seed, **shapes):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def by_hand(first, second, fraction, masks):
    """Return R_p by sorting every layer in Python."""
    shared = taken = 0
    for name in first:
        places = [place for place in range(first[name].numel()) if masks[name].flatten()[place]]
        count = round(fraction * len(places))
        tops = []
        for weights in (first, second):
            flat = weights[name].flatten().tolist()
            tops.append(set(sorted(places, key=lambda place, flat=flat: (-abs(flat[place]), place))[:count]))
        shared, taken = shared + len(tops[0] & tops[1]), taken + count
    return shared / taken


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans(), st.booleans())
def test_the_indicator_is_that_of_a_slow_version(seed, fraction, masked, tied):
    shapes = {"a.weight": (6, 5), "b.weight": (4, 3, 2, 2)}
    first, second = drawn(seed, **shapes), drawn(seed + 1, **shapes)
    if tied:  # few magnitudes and no zero, so that the tie rule decides
        first, second = ({n: w.sign() * w.abs().ceil() for n, w in each.items()} for each in (first, second))
    masks = {name: weights > (-0.3 if masked else -math.inf) for name, weights in drawn(seed + 2, **shapes).items()}
    found = weight_correlation(first, second, fraction=fraction, masks=masks if masked else None)
    assert found.value == by_hand(first, second, fraction, masks)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.33, 0.5, 1.0])
def test_a_network_has_exactly_1_with_itself_at_any_scale_of_its_layers(fraction):
    network = nn.Sequential(nn.Conv2d(1, 7, 3), nn.BatchNorm2d(7), nn.Linear(7, 13))
    scaled = {name: -3.0 * weights for name, weights in network.state_dict().items()}
    assert weight_correlation(network, network, fraction=fraction).value == 1.0
    assert weight_correlation(network, scaled, fraction=fraction).value == 1.0
    assert list(weight_correlation(network, scaled, fraction=fraction).layers) == ["0.weight", "2.weight"]


def test_all_weights_are_all_weights():
    first, second = drawn(0, a=(9, 9)), drawn(1, a=(9, 9))
    found = weight_correlation(first, second, fraction=1.0)
    assert (found.value, found.chance, found.deviation, found.z) == (1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(("weights", "taken"), [(10, 3), (25, 12), (40, 1), (7, 6)])
def test_chance_and_its_variance_are_those_of_the_hypergeometric_law(weights, taken):
    values = {"a": torch.arange(1.0, weights + 1).reshape(1, -1)}
    layer = weight_correlation(values, values, fraction=taken / weights).layers["a"]
    law = stats.hypergeom(weights, taken, taken)
    assert (layer.weights, layer.taken) == (weights, taken)
    assert layer.chance == pytest.approx(law.mean())
    assert layer.variance == pytest.approx(law.var(), abs=1e-12)


def test_independent_networks_are_at_chance_as_often_as_the_interval_says():
    """The count of 200 pairs inside is binomial with p = .95; below 178 it is by chance 1 time in 4,000."""
    shapes = {"a": (20, 30), "b": (15, 10)}
    found = [weight_correlation(drawn(2 * i, **shapes), drawn(2 * i + 1, **shapes), fraction=0.3) for i in range(200)]
    inside = sum(each.low <= each.value <= each.high for each in found)
    assert stats.binom(200, 0.95).cdf(177) < 1 / 4000
    assert 178 <= inside < 200
    # the mean of 200 is four of its standard deviations off less than once in 15,000 times
    assert abs(np.mean([each.value for each in found]) - 0.3) < 4 * found[0].deviation / math.sqrt(200)
    assert found[0].chance == pytest.approx(0.3)
    assert found[0].deviation == pytest.approx(0.7 / math.sqrt(750), rel=0.01)


def test_opposite_rankings_are_below_chance():
    up = {"a": torch.arange(1.0, 101.0).reshape(10, 10)}
    found = weight_correlation(up, {"a": 101.0 - up["a"]}, fraction=0.2)
    assert found.value == 0.0
    assert found.z < -2
    assert found.text().startswith("R_0.2 = 0.0000 (by chance 0.")
    assert found.values()["chance"] == pytest.approx(0.2)


def test_pruned_weights_of_a_sparse_network_come_last_up_to_its_density():
    dense = drawn(0, a=(8, 10))
    mask = {"a": torch.arange(80).reshape(8, 10) % 4 == 0}
    sparse = {"a": dense["a"] * mask["a"]}
    top = weight_correlation(sparse, dense, fraction=0.25)
    assert top.value == by_hand(sparse, dense, 0.25, {"a": torch.ones_like(mask["a"])})
    assert 0.0 < top.value < 1.0
    with pytest.raises(SupermaskError, match="takes 40 weights of a, and one network has only 20 that are not zero"):
        weight_correlation(sparse, dense, fraction=0.5)
    # among the survivors the sparse network ranks as the dense one
    assert weight_correlation(sparse, dense, fraction=0.5, masks=mask).value == 1.0
    assert weight_correlation(sparse, sparse, fraction=0.5).value == 1.0


def test_an_empty_layer_takes_no_part():
    weights, masks = drawn(0, a=(4, 5), b=(3, 3)), {"a": torch.zeros(4, 5) > 0, "b": torch.ones(3, 3) > 0}
    found = weight_correlation(weights, weights, fraction=0.5, masks=masks)
    assert list(found.layers) == ["b"]


@pytest.mark.parametrize(
    ("second", "options", "message"),
    [
        (drawn(1, a=(4, 5)), {"fraction": 0.0}, "fraction=0.0 is out of range"),
        (drawn(1, a=(4, 5)), {"fraction": 1.5}, "fraction=1.5 is out of range"),
        (drawn(1, a=(4, 5)), {"fraction": math.nan}, "fraction=nan is out of range"),
        (drawn(1, a=(4, 5)), {"fraction": 0.01}, "takes no weight of any layer"),
        (drawn(1, a=(5, 4)), {"fraction": 0.5}, r"\(4, 5\) in the first network and \(5, 4\) in the second"),
        (drawn(1, b=(4, 5)), {"fraction": 0.5}, r"in the first network and missing in the second"),
        ({"a": torch.full((4, 5), math.nan)}, {"fraction": 0.5}, "a hold NaN"),
        (drawn(1, a=(4, 5)), {"fraction": 0.5, "masks": {"b": torch.ones(4, 5) > 0}}, "no weights for the masks of b"),
        (drawn(1, a=(4, 5)), {"fraction": 0.5, "masks": {"a": torch.ones(4, 5)}}, "not a bool tensor of shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(second, options, message):
    with pytest.raises(SupermaskError, match=message):
        weight_correlation(drawn(0, a=(4, 5)), second, **options)
