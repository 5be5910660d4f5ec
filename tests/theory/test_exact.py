import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import Ticket
from supermask.errors import SupermaskError
from supermask.models.sequence import from_description
from supermask.runs.ticket_model import as_taken
from supermask.ticket import plain
from theory import construct_exact
from theory.constructions.prune import PathProblem
from theory.exact import ExactCertificate, IntegerInputs
from theory.exact.certificate import LIMIT
from theory.exact.quantise import most, quantise
from theory.exact.subsets import choose_exactly
from theory.target import read_target

PIXELS = IntegerInputs()
NORMALISED = IntegerInputs(0, 255, 1 / (255 * 0.3081), -0.1307 / 0.3081)
SIGNED = IntegerInputs(-20, 9, 0.25)


def dense(seed, *sizes, bias=True):
    torch.manual_seed(seed)
    layers = [[nn.Linear(a, b, bias=bias), nn.ReLU()] for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*itertools.chain(*layers))[:-1]


def images(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 4, 3),
    )  # fmt: skip


def whole(inputs, count, *shape, seed=0):
    """Return random whole inputs, among them all the least, all the largest, and corners."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(inputs.low, inputs.high + 1, (count, *shape), generator=generator)
    drawn[: count // 4] = torch.where(drawn[: count // 4] % 2 == 0, inputs.low, inputs.high)
    drawn[0], drawn[1] = inputs.low, inputs.high
    return drawn


def by_hand(quantised, inputs):
    """Run a network of integers in Python's own, which are never rounded: fully connected layers alone."""
    rows = [[int(p) for p in row] for row in inputs]
    for i, layer in enumerate(quantised.target.layers):
        kernel = layer.kernel[:, :, 0, 0].astype(int).tolist()
        bias = [int(b) for b in layer.offset]
        rows = [
            [sum(map(math.prod, zip(w, row, strict=True))) + b for w, b in zip(kernel, bias, strict=True)]
            for row in rows
        ]
        if i + 1 < len(quantised.target.layers):
            rows = [[max(0, x) for x in row] for row in rows]
    return rows


# ---- equality


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("inputs", [PIXELS, NORMALISED, SIGNED], ids=["pixels", "normalised", "signed"])
def test_the_network_is_the_integer_network(inputs, grouped):
    for seed, bias in ((0, True), (1, False)):
        target = dense(seed, 7, 6, 5, 3, bias=bias)
        built = construct_exact(target, inputs=inputs, seed=seed, grouped=grouped)
        assert built.certificate == ExactCertificate(0.0, 0, built.certificate.largest)
        assert built.certificate.exact
        assert not any(errors.any() for errors in built.errors)
        given = whole(inputs, 40, 7)
        assert built.network(given.double()).tolist() == by_hand(built.quantised, given)


@pytest.mark.parametrize(("inputs", "bits"), [(PIXELS, 8), (SIGNED, 4)])
def test_convolutions_too(inputs, bits):
    built = construct_exact(images(0), bits=bits, inputs=inputs, input_shape=(2, 6, 6), grouped=True)
    assert built.certificate.exact
    given = whole(inputs, 40, 2, 6, 6)
    torch.testing.assert_close(built.network(given.double()).long(), built.quantised(given), rtol=0, atol=0)


def test_a_transposed_convolution_of_integers_is_one():
    target = nn.Sequential(nn.ConvTranspose2d(2, 3, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 2)).double()
    built = construct_exact(target, inputs=PIXELS, input_shape=(2, 4, 3), grouped=True)
    assert built.certificate.exact
    given = whole(PIXELS, 20, 2, 4, 3)
    assert torch.equal(built.network(given.double()).long(), built.quantised(given))
    with pytest.raises(SupermaskError, match="puts zeros beside its inputs"):
        construct_exact(nn.Sequential(nn.ConvTranspose2d(2, 3, 1, 2)), inputs=NORMALISED, input_shape=(2, 4, 3))


def _sums(target, bits, inputs):
    """Return roughly the largest sum of the random network: subsets of eight numbers for each weight."""
    largest = float(inputs.size)
    for layer in quantise(read_target(target, signed=inputs.low < 0), bits, inputs).target.layers:
        sums = 8 * most(bits) * layer.inputs * largest + 8 * np.abs(layer.offset).max()
        largest = float((np.abs(layer.kernel).sum(axis=(1, 2, 3)) * largest + np.abs(layer.offset)).max())
    return max(sums, largest)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
    st.sampled_from([2, 3, 5, 8, 11]),
    st.sampled_from([PIXELS, NORMALISED, SIGNED, IntegerInputs(-1, 0), IntegerInputs(3, 4, 1e-6, 5.0)]),
    st.booleans(),
    st.integers(0, 2**40),
    st.sampled_from([1e-6, 1.0, 1e3]),
)
def test_any_small_network(sizes, bits, inputs, grouped, seed, factor):
    target = dense(seed, *sizes)
    for parameter in target.parameters():
        parameter.data.mul_(factor)
    options = {"bits": bits, "inputs": inputs, "seed": seed, "grouped": grouped, "progress": False}
    if _sums(target, bits, inputs) >= 2**52:  # the biases may be far larger than the weights
        return
    built = construct_exact(target, **options)
    given = whole(inputs, 30, sizes[0])
    found, wanted = built.network(given.double()), torch.tensor(by_hand(built.quantised, given)).double()
    assert float((found - wanted).abs().max()) <= built.certificate.upper
    assert built.certificate.exact == (built.certificate.missed == 0 or built.certificate.upper == 0)


@pytest.mark.parametrize(("inputs", "width"), [(PIXELS, 12), (SIGNED, 16), (SIGNED, 1)])
def test_weights_that_are_missed_are_counted_and_bounded(inputs, width):
    for seed in range(4):
        built = construct_exact(dense(seed, 6, 5, 4), inputs=inputs, width=width, seed=seed)
        certificate = built.certificate
        assert certificate.missed == sum(np.count_nonzero(errors) for errors in built.errors) > 0
        assert not certificate.exact
        given = whole(inputs, 2000, 6)
        apart = (built.network(given.double()) - built.quantised(given).double()).abs().max()
        assert 0 < float(apart) <= certificate.upper
        assert float(apart) >= certificate.upper / 50


def test_float32_is_enough_where_sums_are_small():
    built = construct_exact(dense(0, 5, 4, 3), bits=4, inputs=IntegerInputs(0, 15))
    assert built.certificate.exact_in == ("float64", "float32")
    given = whole(IntegerInputs(0, 15), 50, 5)
    assert torch.equal(built.network.float()(given.float()).double(), built.quantised(given).double())
    assert construct_exact(dense(0, 30, 20, 9)).certificate.exact_in == ("float64",)


def test_the_largest_sum_bounds_all_sums_of_sizes():
    built = construct_exact(dense(3, 9, 7, 4))
    x = torch.full((1, 9), 255.0, dtype=torch.float64)
    hidden = built.network[:2](x)  # the first hops read one input each, whose size they keep
    sums = hidden @ built.network[2].weight.abs().T
    assert built.certificate.largest >= float(sums.max()) > 0


# ---- rounding


def test_weights_and_biases_are_whole_and_of_few_bits():
    for bits in (2, 4, 8, 16):
        quantised = quantise(read_target(dense(2, 9, 8, 3)), bits, NORMALISED)
        for layer, constant in zip(quantised.target.layers, quantised.constants, strict=True):
            assert np.array_equal(layer.kernel, np.rint(layer.kernel))
            assert np.abs(layer.kernel).max() == most(bits) == 2 ** (bits - 1) - 1
            assert np.array_equal(layer.bias, np.rint(layer.bias / constant) * constant)
            assert np.abs(layer.bias).max() <= most(bits) * constant
            assert math.frexp(constant)[0] == 0.5


def test_the_outputs_are_the_targets_but_for_rounding():
    target = dense(4, 12, 10, 5).double()
    given = whole(NORMALISED, 60, 12)
    wanted = target(given.double() * NORMALISED.step + NORMALISED.offset).detach()
    errors = []
    for bits in (6, 10, 14):
        quantised = quantise(read_target(target), bits, NORMALISED)
        errors.append(float((quantised(given.double()) * quantised.scale - wanted).abs().max() / wanted.abs().max()))
    assert errors[0] < 0.1
    assert errors[1] < errors[0] / 6  # four bits more are 16 times better
    assert errors[2] < errors[1] / 6


def test_a_layer_of_zeros_stays_one():
    target = dense(0, 4, 3, 2)
    target[2].weight.data.zero_()
    built = construct_exact(target)
    assert built.certificate.exact
    assert built.network(whole(PIXELS, 9, 4).double()).unique(dim=0).shape[0] == 1


# ---- the choice of paths


@pytest.mark.parametrize("units", [0, 1, 5, 9, 13])
def test_a_weight_is_met_if_any_subset_does_and_by_the_fewest_terms(units):
    random = np.random.default_rng(units)
    second = random.integers(-7, 8, (60, units)).astype(float)
    wanted = random.integers(-7, 8, 60).astype(float)
    chosen, missed = choose_exactly(PathProblem(np.ones(units), second, wanted, 1.0))
    masks = np.array(list(itertools.product([False, True], repeat=units)), bool).reshape(2**units, units)
    sums = second @ masks.T
    for row in range(60):
        best = np.abs(sums[row] - wanted[row]).min()
        assert missed[row] == best == abs(second[row][chosen[row]].sum() - wanted[row])
        if best == 0 and units <= 10:  # with more, the first of them are tried alone first
            assert chosen[row].sum() == masks[sums[row] == wanted[row]].sum(axis=1).min()


# ---- the ticket


def test_the_ticket_is_the_network_and_both_readers_regrow_it(tmp_path):
    built = construct_exact(dense(5, 6, 5, 3), seed=9)
    built.ticket.save(tmp_path / "a.ticket")
    ticket = Ticket.load(tmp_path / "a.ticket")
    assert ticket == built.ticket
    network = ticket.apply(from_description(ticket.provenance["model"]["modules"])).double()
    given = whole(PIXELS, 20, 6).double()
    assert torch.equal(network(given), built.network(given))
    found = plain.read((tmp_path / "a.ticket").read_bytes())
    for name, parameter in network.named_parameters():
        assert found.values[name].astype(np.float64).tobytes() == parameter.detach().numpy().tobytes()
        assert np.array_equal(found.frozen[name], np.rint(found.frozen[name]))


def test_pixels_are_whole_for_a_ticket_of_integers(digits_set):
    shown = digits_set.train.images[:5]
    taken = as_taken(digits_set, "integers").normalize(shown)
    assert torch.equal(taken, shown.float())
    assert torch.equal(as_taken(digits_set, "raw").normalize(shown), shown.float() / digits_set.scale)
    assert as_taken(digits_set, None) is digits_set


@pytest.fixture
def digits_set():
    from supermask import data

    return data.load("digits")


def test_the_seed_draws_the_network_and_one_seed_one_network():
    a, b, c = (construct_exact(dense(1, 4, 3, 2), seed=seed).ticket for seed in (1, 1, 2))
    assert a == b
    assert a.digest != c.digest


# ---- refusals


def test_sums_that_float64_does_not_hold_are_refused():
    deep = dense(0, 8, 8, 8, 8, 8, 8, 8, 8)
    with pytest.raises(SupermaskError, match=r"Sums in layer \d may reach .*2\^53 = 9.01e\+15; give fewer bits"):
        construct_exact(deep, bits=12)
    assert construct_exact(deep, bits=4).certificate.largest < LIMIT


def test_what_makes_fractions_is_refused():
    pooled = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(SupermaskError, match="AvgPool2d makes fractions of integers"):
        construct_exact(pooled, input_shape=(1, 6, 6))


def test_zeros_around_inputs_with_an_offset_are_refused():
    with pytest.raises(SupermaskError, match="puts zeros beside its inputs"):
        construct_exact(images(0), inputs=NORMALISED, input_shape=(2, 6, 6))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"bits": 1}, "bits=1 must be an integer from 2 to 16"),
        ({"bits": 17}, "bits=17 must be"),
        ({"bits": 8.0}, "bits=8.0 must be"),
        ({"width": 0}, "width=0 is not a number of hidden units"),
        ({"seed": -1}, "seed=-1 is out of range"),
    ],
)
def test_options_out_of_range_are_refused(options, sentence):
    with pytest.raises(SupermaskError, match=sentence):
        construct_exact(dense(0, 2, 2), **options)


@pytest.mark.parametrize(
    "wrong",
    [{"low": 5, "high": 5}, {"high": 2.5}, {"low": -(2**25)}, {"step": 0.0}, {"offset": math.inf}, {"low": True}],
)
def test_inputs_that_are_no_range_of_integers_are_refused(wrong):
    with pytest.raises(SupermaskError, match="must have"):
        replace(PIXELS, **wrong)
