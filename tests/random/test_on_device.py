"""What a device makes is what the CPU makes, to the last bit: words, numbers, weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask import models
from supermask.random import on_device, weights
from supermask.random.distributions import KNOWN, Distribution, Fans
from supermask.random.on_device import DeviceStream, same_bits
from supermask.random.stream import Stream, _exact_root, exact_log, normal_quantile
from supermask.random.weights import RandomWeight
from supermask.search import EdgePopup

CPU = torch.device("cpu")
COUNTS = st.lists(st.integers(0, 300), min_size=1, max_size=4)


def both(seed=3, name="layer", device=CPU):
    return DeviceStream(seed, name, "weights", device), Stream(seed, name, "weights")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**63 - 1), st.text(st.characters(codec="utf-8", exclude_characters="\0")), COUNTS)
def test_words_are_those_of_numpy_however_they_are_read(seed, name, counts):
    there, here = both(seed, name)
    for count in counts:
        assert there.words(count).numpy().view(np.uint64).tolist() == here.words(count).tolist()


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.sampled_from([1, 2, 255, 2**25 + 1, 2**30]), st.integers(0, 99))
def test_numbers_are_those_of_the_stream(counts, below, seed):
    kinds = [
        lambda stream, count: stream.signs(count),
        lambda stream, count: stream.uniform(count),
        lambda stream, count: stream.normal(count),
        lambda stream, count: stream.integers(count, below),
        lambda stream, count: stream.truncated_normal(count, 0.7),
    ]
    for draw in kinds:
        there, here = both(seed)
        for count in counts:
            ours, theirs = draw(there, count).numpy(), draw(here, count)
            assert ours.dtype == theirs.dtype == np.float64
            assert ours.tobytes() == theirs.tobytes()


def test_logarithms_roots_and_quantiles_are_the_same_far_into_the_tails():
    ends = np.array([2.0**-53, 1e-300, 0.5, 1.0, 2.0, 4.0, 1.0 - 2.0**-53])
    many = np.concatenate([ends, np.random.default_rng(0).uniform(0.0, 40.0, 300_000), 10.0 ** -np.arange(0.0, 300.0)])
    assert np.array_equal(_exact_root(torch.from_numpy(many)).numpy(), np.sqrt(many))
    assert np.array_equal(exact_log(torch.from_numpy(many)).numpy(), exact_log(many))
    inside = many[(many > 0.0) & (many < 1.0)]
    assert np.array_equal(normal_quantile(torch.from_numpy(inside)).numpy(), normal_quantile(inside))


@pytest.mark.parametrize("name", KNOWN)
def test_every_distribution_draws_alike(name):
    fans, distribution = Fans(15, 40), KNOWN[name]()
    there, here = both(name=name)
    for count in (64 * 50, 777):
        ours = distribution.draw(there, count, fans)
        assert ours.numpy().tobytes() == distribution.draw(here, count, fans).tobytes()


def test_weights_are_made_on_a_device_in_parts_and_only_where_its_bits_are_right(monkeypatch):
    weight = RandomWeight((70, 5, 3), KNOWN["truncated_normal"](), Fans(15, 70), 1.5)
    made = torch.empty(weight.count)
    weight._fill(made, DeviceStream(9, "w", "weights", CPU), 128)
    expected = weight.grow(9, "w")
    assert torch.equal(made.view(expected.shape), expected)
    asked = []
    monkeypatch.setattr(weights, "same_bits", lambda device: bool(asked.append(device)))
    assert weight.grow(9, "w", device=torch.device("meta")).is_meta, "made here and sent there"
    assert asked == [torch.device("meta")]


def test_a_device_that_makes_other_numbers_is_found(monkeypatch):
    same_bits.cache_clear()
    assert same_bits(CPU)
    same_bits.cache_clear()
    monkeypatch.setattr(on_device, "normal_quantile", lambda p: normal_quantile(p) * (1.0 + 2.0**-52))
    assert not same_bits(CPU)
    same_bits.cache_clear()
    assert not same_bits(torch.device("meta")), "it has no numbers"
    same_bits.cache_clear()


def test_a_distribution_of_the_callers_own_is_drawn_by_numpy():
    class Own(Distribution):
        name = "own"

        def draw(self, stream, count, fans):
            return np.sort(stream.uniform(count))

        def deviation(self, fans):
            return 0.3

    assert RandomWeight((4, 3), Own(), Fans(3, 4)).grow(0, "w", device=torch.device("meta")).is_meta


@pytest.mark.gpu
@pytest.mark.parametrize("name", KNOWN)
def test_a_gpu_makes_what_the_cpu_makes(name):
    gpu = torch.device("cuda")
    assert same_bits(gpu)
    weight = RandomWeight((300, 70, 3), KNOWN[name](), Fans(210, 300), 1.5)
    there = weight.grow(9, "w", device=gpu)
    assert there.is_cuda
    assert torch.equal(there.cpu(), weight.grow(9, "w"))
    ours, theirs = (
        EdgePopup(models.build("lenet_300_100", width=0.2).to(device), density=0.5, seed=4, weights=name).ticket()
        for device in (gpu, CPU)
    )
    assert ours.digest == theirs.digest
