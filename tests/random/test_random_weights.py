"""Frozen weights depend on the seed, the name and their description, and on nothing else: not on the process, the
order, the number of threads, or any global generator."""

import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import supermask
from supermask.errors import SupermaskError
from supermask.random.distributions import KNOWN, Fans, KaimingNormal, SignedConstant, Uniform, named
from supermask.random.weights import (
    CHUNK,
    MAX_SEED,
    RandomWeight,
    checked_seed,
    describe_all,
    digest,
    from_descriptions,
    grow_all,
)

ALARM = 1e-6  # chance that a sound generator would fail a statistical test, had its seed been drawn at random
GOLDEN = {
    "signed_constant": "5523b3255593de7dc340d14260243144226409e6dad69c63b22c87d6d4590efa",
    "kaiming_normal": "3de498d2f68ab373f3cdb0132aeed5c800ff6df3dc20764276c8538d6e3d68c6",
    "kaiming_uniform": "215688b836d85bda44c2762e78d159c80929ad14a4c36fbdcc5094e605655554",
    "xavier_normal": "bd629ea7ab9066a6997345d35739385c98479edfdef0ab0ba11d697d3fc344ce",
    "xavier_uniform": "4bb07da34a826d7bca88e8565151161c6d2d730fe60042e85ef1347b502680ff",
    "uniform": "102ab609e4144352d8f899fdcbf81e35b28bd8ce778ce671bb828f9610e8f015",
    "uniform_integer": "977f9c9481dac647d31278f8934e2409415434971ac61f6dda62ad2f41f1e37e",
    "truncated_normal": "8ec22bb41b14ba01bacee63b2952d48c03317318cd2eafdd967df283935edca4",
    "sign_of": "3abc4403a3dacbc0b7148df38bea0ef6ad1007f7af5ff25f21057b18fb232dda",
}


def network(scale=1.0):
    """Return one random weight of each distribution, of several shapes, by name."""
    return {
        f"{name}.weight": RandomWeight((40, 5 + i, 3), kind(), Fans(15 + i, 40), scale)
        for i, (name, kind) in enumerate(KNOWN.items())
    }


def layer(shape=(4, 3), distribution=SignedConstant(), fans=Fans(3, 4), scale=1.0):  # noqa: B008 (immutable)
    return RandomWeight(shape, distribution, fans, scale)


# ---- regrowth


def test_every_distribution_is_pinned():
    assert set(GOLDEN) == set(KNOWN)


@pytest.mark.parametrize("name", GOLDEN)
def test_no_bit_of_a_weight_ever_changes(name):
    weight = RandomWeight((17, 5), named(name), Fans(5, 17), 0.3**-0.5)
    assert digest({"w": weight.grow(3, "layer.weight")}) == GOLDEN[name]


ELSEWHERE = """
import random, sys, numpy, torch
sys.path.insert(0, "tests/random")
from test_random_weights import digest, network
torch.set_num_threads(2)
torch.manual_seed(123), numpy.random.seed(123), random.seed(123)
torch.set_default_dtype(torch.float64)
weights = network()
backwards = {name: weights[name].grow(MAX_SEED, name) for name in reversed(weights)}
print(digest(backwards))
""".replace("MAX_SEED", str(MAX_SEED))


def test_weights_are_the_same_in_another_process_order_and_number_of_threads():
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=root, capture_output=True, text=True, check=True, timeout=300
    )
    assert ran.stdout.strip() == digest(grow_all(network(), MAX_SEED))


def test_global_generators_are_neither_read_nor_moved():
    def states():
        kind, keys, *rest = np.random.get_state()
        return torch.get_rng_state().tolist(), kind, keys.tolist(), rest, random.getstate()

    grown = []
    with torch.random.fork_rng(devices=[]):
        kept = np.random.get_state(), random.getstate()
        for seed in (0, 1):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            before = states()
            grown.append(digest(grow_all(network(), 5)))
            assert states() == before
        np.random.set_state(kept[0])
        random.setstate(kept[1])
    assert grown[0] == grown[1]


def test_a_weight_does_not_depend_on_its_neighbours():
    weights = network()
    together = grow_all(weights, 5)
    for name, weight in weights.items():
        assert torch.equal(weight.grow(5, name), together[name])


def test_growing_twice_gives_separate_memory():
    first, second = layer().grow(0, "w"), layer().grow(0, "w")
    first.zero_()
    assert second.all()


def test_another_seed_name_or_purpose_gives_another_weight():
    weight = layer((10, 10), Uniform())
    grown = [weight.grow(*which) for which in [(0, "a"), (1, "a"), (0, "b"), (MAX_SEED, "a"), (0, "a", "scores")]]
    assert len({digest({"w": one}) for one in grown}) == len(grown)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 6), max_size=4).map(tuple),
    st.sampled_from(sorted(KNOWN)),
    st.integers(0, MAX_SEED),
    st.floats(1e-3, 1e3),
)
def test_any_shape_is_filled_in_the_order_of_its_flat_index(shape, name, seed, scale):
    flat = RandomWeight((math.prod(shape),), named(name), Fans(3, 4), scale).grow(seed, "w")
    grown = RandomWeight(shape, named(name), Fans(3, 4), scale).grow(seed, "w")
    assert grown.dtype is torch.float32
    assert grown.device.type == "cpu"
    assert tuple(grown.shape) == shape
    assert grown.is_contiguous()
    assert torch.equal(grown.reshape(-1), flat)


@pytest.mark.parametrize("name", KNOWN)
def test_a_weight_that_is_grown_in_parts_is_that_of_one_draw(name):
    weight = RandomWeight((2 * CHUNK + 77,), named(name), Fans(3, 4), scale=0.3**-0.5)
    drawn = weight.distribution.draw(supermask.random.stream.Stream(0, "w", "weights"), weight.count, weight.fans)
    assert np.array_equal(weight.grow(0, "w").numpy(), (drawn * weight.scale).astype(np.float32))


def test_weights_are_rounded_to_float32_once():
    weight = layer((1000,), KaimingNormal(), scale=0.3**-0.5)
    drawn = weight.distribution.draw(supermask.random.stream.Stream(0, "w", "weights"), 1000, weight.fans)
    assert weight.grow(0, "w").tolist() == [float(np.float32(number * 0.3**-0.5)) for number in drawn]


# ---- the scale


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", KNOWN)
def test_one_over_root_density_keeps_the_variance_of_what_a_mask_leaves(name, density):
    """E[(w / sqrt(k))^2 * mask] = E[w^2]; the wrong side, 1 - k or sqrt(k), is far outside the bound."""
    count = 100_000
    full = RandomWeight((count,), named(name), Fans(20, 20)).grow(0, "w").double()
    scaled = RandomWeight((count,), named(name), Fans(20, 20), density**-0.5).grow(0, "w").double()
    mask = RandomWeight((count,), Uniform(), Fans(1, 1)).grow(1, "mask") < 2 * density - 1
    left = (scaled**2 * mask).numpy()
    # by the central limit theorem the error is normal; the bound is that of a chance of ALARM
    bound = stats.norm.isf(ALARM / 2) * left.std() / math.sqrt(count) + 1e-6 * float((full**2).mean())
    assert abs(left.mean() - float((full**2 * mask).mean()) / density) < 1e-6 * left.mean()
    assert abs(left.mean() - float((full**2).mean())) < bound


@pytest.mark.parametrize("density", [0.1, 0.3, 0.9])
def test_a_search_scales_its_frozen_weights_by_one_over_root_density(density):
    model = torch.nn.Linear(100, 10, bias=False)
    search = supermask.EdgePopup(model, density=density)
    # of signed constants the mean square is exact: kept / n of them at 2 / (fan_in * density)
    assert float((model.weight.detach().double() ** 2).mean()) == pytest.approx(2 / 100, rel=1e-6)
    assert search.network.weights["weight"].scale == 1 / math.sqrt(density)
    plain = supermask.EdgePopup(torch.nn.Linear(100, 10, bias=False), density=density, scaled=False)
    assert plain.network.weights["weight"].scale == 1.0


# ---- the digest


def test_the_digest_sees_names_shapes_and_values():
    one = torch.arange(6.0)
    tensors = [
        {"a": one},
        {"b": one},
        {"a": one.reshape(2, 3)},
        {"a": one.reshape(3, 2)},
        {"a": one.reshape(1, 6)},
        {"a": -one},
        {"a": one, "b": one},
        {"a": one[:3], "b": one[3:]},
        {"a": torch.tensor([])},
        {},
    ]
    assert len({digest(some) for some in tensors}) == len(tensors)


@pytest.mark.parametrize("position", range(6))
def test_the_digest_sees_the_last_bit_of_every_value(position):
    one, other = torch.ones(6), torch.ones(6)
    other[position] = torch.nextafter(other[position], torch.tensor(2.0))
    assert digest({"a": one}) != digest({"a": other})


def test_the_digest_tells_minus_zero_from_zero():
    assert digest({"a": torch.tensor(0.0)}) != digest({"a": torch.tensor(-0.0)})


def test_the_digest_does_not_see_the_order_of_names_or_the_layout_in_memory():
    table = torch.arange(6.0).reshape(2, 3)
    assert digest({"a": table, "b": table}) == digest({"b": table, "a": table.T.contiguous().T})


# ---- refusals


@pytest.mark.parametrize("seed", [0, 1, MAX_SEED])
def test_seeds_in_range_are_taken(seed):
    assert checked_seed(seed) == seed


@pytest.mark.parametrize("seed", [-1, 2**63, True, False, 0.0, 1.5, "0", None, np.int64(1), math.nan])
def test_other_seeds_are_refused_by_value(seed):
    with pytest.raises(SupermaskError) as caught:
        layer().grow(seed, "w")
    assert str(caught.value) == f"seed={seed!r} is out of range; it must be an integer from 0 to 2**63 - 1."


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"shape": (3, -1)}, r"shape \(3, -1\); sizes must not be negative"),
        ({"fans": Fans(0, 3)}, r"fans \(0, 3\); they must be at least 1"),
        ({"fans": Fans(3, 0)}, r"fans \(3, 0\); they must be at least 1"),
        ({"scale": 0.0}, "scale 0.0; it must be positive and finite"),
        ({"scale": -1.0}, "scale -1.0"),
        ({"scale": math.inf}, "scale inf"),
        ({"scale": math.nan}, "scale nan"),
    ],
)
def test_a_weight_that_makes_no_sense_is_refused(bad, message):
    with pytest.raises(SupermaskError, match=message):
        layer(**bad)


# ---- descriptions


def test_descriptions_are_read_back():
    weights = network(scale=0.3**-0.5) | {"scalar": layer(()), "none": layer((0, 3))}
    assert from_descriptions(describe_all(weights)) == weights


def test_each_distribution_is_described_once():
    weights = {"a": layer(), "b": layer((2, 2)), "c": layer(distribution=Uniform()), "d": layer(scale=2.0)}
    described = describe_all(weights)
    assert described["distributions"] == [SignedConstant().describe(), Uniform().describe()]
    assert [which for _, which, _, _ in described["weights"].values()] == [0, 0, 1, 0]
