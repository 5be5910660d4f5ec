"""The certificate is for the numbers that both networks are run in: float32 and bfloat16 round more than float64."""

import copy
import importlib
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from supermask.errors import SupermaskError
from theory import ascent
from theory.precision import FLOAT64, precision_of
from theory.rounding import rounding_of_sums

# `theory` offers the function construct under the name of its module
construct = importlib.import_module("theory.build").construct


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr(ascent, "STEPS", 3)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(*sizes, dtype=torch.float32):
    modules = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(inputs, outputs, dtype=dtype)
        weight = noise(outputs, inputs, seed=i)
        linear.weight.data = (weight / torch.linalg.matrix_norm(weight, 2)).to(dtype)
        linear.bias.data = (0.1 * noise(outputs, seed=50 + i)).to(dtype)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


def off(target, other, dtype, count=300):
    """Return the largest difference between the two as they run in a dtype, on inputs of that dtype in the ball."""
    x = noise(count, target[0].in_features, seed=3)
    x = (0.999 * x / x.norm(dim=1, keepdim=True)).to(dtype)
    with torch.no_grad():
        runs = [copy.deepcopy(each).to(dtype)(x).double() for each in (target, other)]
    return float((runs[0] - runs[1]).norm(dim=1).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_in_coarser_numbers_is_above_the_proof_for_float64_and_below_its_own(dtype):
    target = network(8, 12, 12, 4)
    built = construct(target, 1e-7)
    found = off(target, built.network, dtype)
    assert found > built.certificate.upper
    own = built.certify(built.certificate.domain, dtype=dtype)
    assert own.upper >= max(found, own.lower) > 0.0
    assert own.dtype == str(dtype).removeprefix("torch.")
    assert (built.certificate.dtype, own.domain) == ("float64", built.certificate.domain)


def test_weights_of_float64_are_rounded_too():
    target = network(8, 8, 4, dtype=torch.float64)
    built = construct(target, 1e-6, dtype=torch.float32, width=50)
    assert off(target, built.network, torch.float32) <= built.certificate.upper
    assert built.ticket.provenance["options"]["dtype"] == "float32"
    assert all(parameter.dtype is torch.float64 for parameter in built.network.parameters())


def test_of_the_same_weights_only_rounding_is_between_two_runs_and_it_is_counted():
    target = network(16, 32, 4)
    read = importlib.import_module("theory.target").read_target(target)
    certificate = importlib.import_module("theory.certificate")
    for dtype, least in ((torch.float32, 1e-9), (torch.bfloat16, 1e-4)):
        upper = certificate.own_rounding(read, 1.0, "l2", precision_of(dtype))
        x = noise(300, 16, seed=3)
        x = (0.999 * x / x.norm(dim=1, keepdim=True)).to(dtype)
        with torch.no_grad():
            rounding = (copy.deepcopy(target).to(dtype)(x).double() - read(x.double())).norm(dim=1).max()
        assert least < float(rounding) <= upper


def test_a_sum_that_loses_all_but_its_first_term_is_within_the_bound_and_near_it():
    """1 + 2^-24 is halfway between two numbers of float32 and rounds to 1, so each of these additions loses a unit."""
    terms, unit = 1000, np.float32(2.0**-24)
    target = nn.Linear(terms, 1, bias=False).double()
    target.weight.data[:] = float(unit)
    target.weight.data[0, 0] = 1.0
    layer = importlib.import_module("theory.target").read_target(nn.Sequential(target)).layers[0]
    found = importlib.import_module("theory.certificate").itself(layer)
    run = np.float32(0.0)
    for weight in target.weight.data[0].float().numpy():
        run = run + weight
    exact, lost = float(layer.kernel.sum()), float(layer.kernel.sum()) - float(run)
    bound = rounding_of_sums(layer, found, exact, 0.0, 1.0, "linf", precision_of(torch.float32))
    assert lost == pytest.approx((terms - 1) * 2.0**-24)
    assert lost <= bound <= 1.02 * lost


def test_sums_too_long_for_a_dtype_have_no_bound():
    assert precision_of(torch.float32).sums(2**24) == float("inf")
    assert FLOAT64.sums(3) == 3 * 2.0**-53 / (1 - 3 * 2.0**-53)
    with pytest.raises(SupermaskError, match=r"^dtype=torch\.float16 has no certificate; give float64, float32 or bf"):
        construct(network(3, 2), 0.1, width=8, dtype=torch.float16)


class Casts(nn.Module):
    """A forward that runs in bfloat16, in some way of saying so."""

    def __init__(self, how):
        super().__init__()
        self.how, self.layers = how, network(4, 5, 3)

    def forward(self, x):
        with self.how():
            return self.layers(x)


class Decorated(Casts):
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x):
        return self.layers(x)


def bfloat16():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def disabled():
    return torch.autocast("cpu", enabled=False)


@pytest.mark.parametrize("module", [Casts(bfloat16), Decorated(bfloat16), nn.Sequential(Casts(bfloat16), nn.ReLU())])
def test_a_target_that_casts_inside_of_its_forward_is_refused(module):
    with pytest.raises(SupermaskError, match=r"forward enters torch\.autocast, which .*\.$"):
        construct(module, 0.1, width=8)


def test_a_disabled_cast_does_nothing_and_a_cast_around_the_whole_is_not_the_targets():
    plain = Casts(disabled)
    with bfloat16():
        built = construct(plain, 0.1, width=12)
    assert built.certificate.upper == construct(plain.layers, 0.1, width=12).certificate.upper
