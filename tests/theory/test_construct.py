"""One random network, drawn once, is pruned to the target: what is certified is the masked network itself."""

import copy
import importlib
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import Ticket
from supermask.errors import SupermaskError, TicketError
from supermask.random.weights import RandomWeight
from theory import bounds
from theory.constructions import prune, random_pair

# `theory` offers the function construct under the name of its module
construction = importlib.import_module("theory.build")
construct = construction.construct

NORMS = ["l2", "linf"]


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gaussian(*sizes, bias=False, relu=True, seed=0):
    """Return a float64 target with Gaussian weights of spectral norm 1, and small biases."""
    modules = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(inputs, outputs, bias=bias).double()
        weight = noise(outputs, inputs, seed=100 * seed + i)
        linear.weight.data = weight / torch.linalg.matrix_norm(weight, 2)
        if bias:
            linear.bias.data = 0.3 * noise(outputs, seed=100 * seed + i + 50)
        modules += [linear, nn.ReLU()] if relu else [linear]
    return nn.Sequential(*(modules[:-1] if relu else modules))


def fresh(built, *, flatten=False):
    """Return an untrained module of the architecture of the random network, written down by its shapes."""
    modules = [nn.Flatten()] if flatten else []
    for module in built.network:
        if isinstance(module, nn.Linear):
            modules.append(nn.Linear(module.in_features, module.out_features, bias=module.bias is not None))
        elif isinstance(module, nn.ReLU):
            modules.append(nn.ReLU())
    return nn.Sequential(*modules).double()


def linears(network):
    return [module for module in network if isinstance(module, nn.Linear)]


def algebra(built, target, x, *, relu=True):
    """Run x through the effective weights, added up path by path from the ticket: its random weights and its masks."""
    grown = built.ticket.random_weights()
    kept = {name: grown[name].double() * mask for name, mask in built.ticket.masks.items()}
    names = [name.removesuffix(".weight") for name in kept if name.endswith(".weight")]
    follows = [isinstance(module, nn.ReLU) for module in [*list(target)[1:], None]]
    follows = [after for module, after in zip(target, follows, strict=True) if isinstance(module, nn.Linear)]
    for first, second, after in zip(names[::2], names[1::2], follows, strict=True):
        into, out = kept[f"{first}.weight"], kept[f"{second}.weight"]
        constant = kept.get(f"{first}.bias", torch.zeros(len(into), dtype=torch.float64))
        up = torch.einsum("oh,hi->oi", out, into.relu() if relu else into)
        down = torch.einsum("oh,hi->oi", out, (-into).relu()) if relu else -up
        x = x.relu() @ up.T + (-x).relu() @ down.T + out @ (constant.relu() if relu else constant)
        x = x.relu() if after else x
    return x


def sizes_of(rows, norm):
    return rows.abs().amax(dim=1) if norm == "linf" else rows.norm(dim=1)


def into_ball(x, radius, norm):
    if norm == "linf":
        return x.clamp(-radius, radius)
    return x * (radius / x.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1.0)


def attack(target, network, *, radius, norm, seed):
    """Return the largest difference seen between two modules: at random, on the axes, and by gradient ascent."""
    inputs = linears(target)[0].in_features
    x, axes = noise(300, inputs, seed=seed), torch.eye(inputs, dtype=torch.float64)
    x = into_ball(radius * torch.cat([10.0 * x, 0.2 * x, 10.0 * x.sign(), axes, -axes, 0.0 * axes]), radius, norm)
    largest = 0.0
    for _ in range(20):
        x.requires_grad_()
        differences = sizes_of(target(x) - network(x), norm)
        largest = max(largest, float(differences.detach().max()))
        (gradient,) = torch.autograd.grad(differences.sum(), x)
        step = gradient.sign() if norm == "linf" else gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)
        x = into_ball(x.detach() + 0.2 * radius * step, radius, norm)
    return largest


@pytest.fixture
def draws(monkeypatch):
    """Count what is drawn: calls for a whole network, and each tensor that is grown from a seed and a name."""
    networks, tensors = [], []
    grow, grow_all = RandomWeight.grow, random_pair.grow_all

    def counted(weight, seed, name, *rest, **named):
        tensor = grow(weight, seed, name, *rest, **named)
        tensors.append((seed, name, weight))
        return tensor

    def counted_all(weights, seed):
        networks.append(seed)
        return grow_all(weights, seed)

    monkeypatch.setattr(RandomWeight, "grow", counted)
    monkeypatch.setattr(random_pair, "grow_all", counted_all)
    return SimpleNamespace(networks=networks, tensors=tensors)


@pytest.mark.parametrize("width", [1, 6, 40])
def test_the_random_network_is_drawn_once_whether_it_fits_or_not(draws, width):
    target = gaussian(3, 4, 2, bias=True)
    built = construct(target, 0.01, width=width, seed=7)
    assert draws.networks == [7]
    assert {seed for seed, *_ in draws.tensors} == {7}
    assert sorted(name for _, name, _ in draws.tensors) == sorted(built.ticket.weights)  # each of them once
    assert {(name, weight) for _, name, weight in draws.tensors} == set(built.ticket.weights.items())
    assert built.ticket.seed == 7
    assert built.widths == (width, width)
    assert built.within == (width == 40)


def test_random_weights_that_were_written_into_are_not_what_is_returned(monkeypatch):
    """The digest is of what was drawn, and is held against what the network is made from."""

    def paths(pair, tensors):
        tensors[f"{pair.second}.weight"].view(-1)[0] += 1.0
        return pair_paths(pair, tensors)

    pair_paths = random_pair.RandomPair.paths
    monkeypatch.setattr(random_pair.RandomPair, "paths", paths)
    with pytest.raises(TicketError, match="weights given are not those of the ticket"):
        construct(gaussian(3, 4, 2), 0.1, width=4)


@pytest.mark.parametrize("cores", [1, 3, 100])
def test_the_number_of_cores_does_not_change_what_is_built(monkeypatch, cores):
    target = gaussian(5, 4, 2, bias=True)
    expected = construct(target, 0.1, width=16)
    monkeypatch.setattr(prune, "available_cores", lambda: cores)
    built = construct(target, 0.1, width=16)
    assert all(torch.equal(mask, expected.ticket.masks[name]) for name, mask in built.ticket.masks.items())
    assert all(map(np.array_equal, built.errors, expected.errors))
    assert built.certificate == expected.certificate


def test_a_network_that_does_not_fit_says_so_with_the_error_it_reached():
    target = gaussian(4, 5, 3)
    built = construct(target, 0.01, width=3)
    assert built.within is False
    assert built.epsilon == 0.01
    assert built.certificate.upper > built.certificate.lower > 0.01
    assert max(np.abs(errors).max() for errors in built.errors) > 0.01


def test_the_seed_alone_decides_the_network():
    target = gaussian(3, 4, 2)
    one, same, other = (construct(target, 0.1, width=16, seed=seed) for seed in (0, 0, 1))
    assert one.ticket.digest == same.ticket.digest != other.ticket.digest
    assert all(torch.equal(mask, same.ticket.masks[name]) for name, mask in one.ticket.masks.items())
    assert one.certificate == same.certificate


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (4, 3, 5, 2)])
@pytest.mark.parametrize("name", ["relu_diamond", "linear_diamond"])
def test_the_masked_network_computes_its_effective_weights(tmp_path, name, sizes, bias):
    relu = name == "relu_diamond"
    target = gaussian(*sizes, bias=bias, relu=relu, seed=3)
    built = construct(target, 0.05, construction=name, width=20, seed=5)
    built.ticket.save(tmp_path / "built.ticket")
    regrown = Ticket.load(tmp_path / "built.ticket").apply(fresh(built))
    x = torch.cat([3.0 * noise(60, sizes[0]), torch.eye(sizes[0]), -torch.eye(sizes[0])])
    expected = algebra(built, target, x, relu=relu)
    assert len(linears(built.network)) == 2 * (len(sizes) - 1)
    torch.testing.assert_close(built.network(x), expected, rtol=0.0, atol=1e-10)
    assert torch.equal(regrown(x), built.network(x))


@pytest.mark.parametrize("name", ["relu_diamond", "linear_diamond"])
def test_random_weights_are_untouched_masks_binary_and_each_unit_reads_one_input(name):
    target = gaussian(4, 5, 3, bias=True, relu=name == "relu_diamond")
    built = construct(target, 0.05, construction=name, width=20, seed=2)
    parameters = dict(built.network.named_parameters())
    assert parameters.keys() == built.ticket.masks.keys() == built.ticket.weights.keys()
    for parameter, mask in built.ticket.masks.items():
        untouched = built.ticket.weights[parameter].grow(2, parameter).double()
        found = parameters[parameter].detach()
        assert mask.dtype is torch.bool
        assert found.dtype is torch.float64
        assert torch.equal(found[mask], untouched[mask])
        assert not found[~mask].any()
        assert untouched.count_nonzero() == untouched.numel()
    for first in linears(built.network)[::2]:
        reads = torch.cat([first.weight, first.bias[:, None]], dim=1).count_nonzero(dim=1)
        assert int(reads.max()) <= 1


def test_only_paths_that_are_kept_on_both_hops_are_kept():
    built = construct(gaussian(4, 5, 3, bias=True), 0.05, width=20)
    first, second, third, fourth = linears(built.network)
    for into, out in [(first, second), (third, fourth)]:
        reads = into.weight.bool().any(dim=1) | into.bias.bool()
        assert torch.equal(reads, out.weight.bool().any(dim=0))


def test_behind_a_relu_no_path_waits_for_negative_inputs():
    built = construct(gaussian(4, 5, 3), 0.05, width=20)
    first, _, third, _ = linears(built.network)
    assert bool((first.weight < 0.0).any())
    assert not bool((third.weight < 0.0).any())


@pytest.mark.parametrize("name", ["relu_diamond", "linear_diamond"])
def test_errors_are_those_of_the_effective_weights(name):
    target = gaussian(3, 2, bias=True, relu=name == "relu_diamond")
    target = nn.Sequential(linears(target)[0])
    built = construct(target, 0.05, construction=name, width=12)
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    with torch.no_grad():
        off = built.network(zero) - target(zero)
        missed = torch.maximum(*((built.network(x) - target(x) - off).abs().T for x in (eye, -eye)))
    (errors,) = built.errors
    np.testing.assert_allclose(errors, torch.cat([missed, off.abs().T], dim=1).numpy(), rtol=0.0, atol=1e-12)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.sampled_from([(1, 1), (3, 2), (3, 4, 2), (2, 3, 3, 2)]),
    bias=st.booleans(),
    name=st.sampled_from(["relu_diamond", "linear_diamond"]),
    width=st.sampled_from([1, 8, 24]),
    radius=st.sampled_from([0.1, 1.0, 10.0]),
    norm=st.sampled_from(NORMS),
)
def test_the_certificate_is_above_every_error_that_is_found(seed, sizes, bias, name, width, radius, norm):
    target = gaussian(*sizes, bias=bias, relu=name == "relu_diamond", seed=seed)
    built = construct(target, 0.01, construction=name, seed=seed, width=width, radius=radius, norm=norm)
    found = attack(target, built.network, radius=radius, norm=norm, seed=seed + 1)
    assert built.certificate.upper >= found
    assert built.certificate.upper >= built.certificate.lower
    assert built.certificate.lower >= 0.8 * found
    assert (built.certificate.radius, built.certificate.norm) == (radius, norm)


def assert_published_width_is_enough(sizes, width, epsilon, seeds, misses):
    certificates = [construct(gaussian(*sizes, seed=s), epsilon, width=width, seed=s).certificate for s in seeds]
    assert sum(certificate.upper > epsilon for certificate in certificates) <= misses
    assert all(1.0 <= certificate.ratio <= 30.0 for certificate in certificates)


def test_a_published_width_is_enough_in_a_few_seeds():
    assert_published_width_is_enough((6, 8, 8, 4), 48, 0.01, range(5), misses=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "width", "epsilon", "seeds", "misses"),
    [((6, 8, 8, 4), 48, 0.01, 20, 2), ((16, 16, 16, 5), 56, 0.005, 10, 1)],
)
def test_a_published_width_is_enough_in_nine_of_ten_seeds(sizes, width, epsilon, seeds, misses):
    assert_published_width_is_enough(sizes, width, epsilon, range(seeds), misses)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_widths_chosen_from_epsilon_reach_it(seed, bias, norm):
    for sizes, epsilon in [((3, 2), 1e-3), ((4, 5, 3), 0.01), ((3, 4, 4, 2), 0.05)]:
        built = construct(gaussian(*sizes, bias=bias, seed=seed), epsilon, seed=seed, norm=norm)
        assert built.within
        assert len(built.widths) == len(sizes) - 1


def test_a_smaller_epsilon_takes_wider_networks():
    widths = [construct(gaussian(3, 2), epsilon).widths[0] for epsilon in (0.1, 0.01, 0.001)]
    assert widths == sorted(set(widths))


def test_linear_targets_are_built_within_epsilon():
    target = gaussian(3, 4, 2, bias=True, relu=False)
    for name in ("linear_diamond", "relu_diamond"):
        built = construct(target, 0.01, construction=name)
        assert built.within
        assert attack(target, built.network, radius=1.0, norm="l2", seed=1) <= built.certificate.upper


@pytest.mark.parametrize("epsilon", [1e-310, 5e-324, 1e300])
def test_an_epsilon_out_of_reach_is_answered(epsilon):
    built = construct(gaussian(3, 2), epsilon)
    assert built.within == (epsilon > 1.0)
    assert built.widths[0] < 200


@pytest.mark.parametrize("norm", [30.0, 1e-3])
@pytest.mark.parametrize("bias", [False, True])
def test_targets_of_any_size_are_built(norm, bias):
    target = gaussian(3, 4, 2, bias=bias)
    for linear in linears(target):
        for parameter in linear.parameters():
            parameter.data *= norm
    epsilon = 0.01 * norm**2
    assert construct(target, epsilon).within


def test_a_scaled_layer_is_the_same_network_scaled_exactly():
    target, x = gaussian(3, 4, 2), noise(40, 3)
    larger = copy.deepcopy(target)
    larger[0].weight.data *= 32.0
    larger[2].weight.data /= 1024.0
    one, other = construct(target, 1e-9, width=16), construct(larger, 1e-9, width=16)  # all items used, in both
    assert all(torch.equal(mask, other.ticket.masks[name]) for name, mask in one.ticket.masks.items())
    assert torch.equal(one.network(x) / 32.0, other.network(x))
    scales = [weight.scale for name, weight in one.ticket.weights.items() if name in ("2.weight", "6.weight")]
    assert scales == [2.0 * float(linear.weight.detach().abs().max()) for linear in linears(target)]


def test_a_wider_ball_asks_for_more():
    target = gaussian(3, 4, 2)
    built = construct(target, 0.01, radius=50.0)
    assert built.within
    assert built.widths > construct(target, 0.01).widths
    assert attack(target, built.network, radius=50.0, norm="l2", seed=3) <= built.certificate.upper


def test_a_target_of_images_takes_images():
    torch.manual_seed(0)
    target = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    built = construct(target, 0.01)
    images = noise(50, 2, 2, 2)
    images /= images.flatten(1).norm(dim=1)[:, None, None, None]
    differences = (built.network(images) - copy.deepcopy(target).double()(images)).norm(dim=1)
    assert built.within
    assert float(differences.detach().max()) <= built.certificate.upper
    regrown = built.ticket.apply(fresh(built, flatten=True))
    assert torch.equal(regrown(images), built.network(images))


def test_what_does_nothing_after_training_changes_nothing():
    plain = gaussian(3, 4, 2, bias=True)
    first, relu, last = plain
    padded = nn.Sequential(nn.Identity(), first, relu, nn.Dropout(0.5), nn.Identity(), last, nn.Dropout(0.9)).train()
    one, other = construct(plain, 0.05), construct(padded, 0.05)
    assert one.certificate == other.certificate
    assert one.ticket.digest == other.ticket.digest


def test_one_relu_module_in_two_places_is_two_relus():
    target = gaussian(3, 4, 4, 2)
    shared = nn.Sequential(target[0], target[1], target[2], target[1], target[4])
    assert construct(shared, 0.05).certificate == construct(target, 0.05).certificate


def test_the_target_is_left_as_it_was():
    torch.manual_seed(0)
    target = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    before = copy.deepcopy(target.state_dict())
    construct(target, 0.05)
    assert target.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    assert all(parameter.dtype is torch.float32 for parameter in target.parameters())


@pytest.mark.parametrize("bias", [False, True])
def test_zero_weights_and_layers_of_one_unit_are_built(bias):
    target = gaussian(3, 1, 4, 1, bias=bias)
    target[0].weight.data[0, 1] = 0.0
    target[2].weight.data[1:3] = 0.0
    built = construct(target, 0.01)
    assert built.within
    assert not linears(built.network)[0].weight[:, 1].any()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (3, 4, 4, 4, 2)])
def test_a_dead_target_keeps_nothing_and_is_met_exactly(sizes, bias):
    target = gaussian(*sizes, bias=bias)
    for parameter in target.parameters():
        parameter.data.zero_()
    built = construct(target, 0.01)
    assert built.within
    assert built.certificate.lower == 0.0
    assert built.ticket.kept == 0
    assert not built.network(noise(10, 3)).any()


@pytest.mark.parametrize("bias", [False, True])
def test_weights_are_counted_as_the_theorem_counts_them(bias):
    sizes, width = (4, 5, 3), 20
    built = construct(gaussian(*sizes, bias=bias), 0.05, width=width)
    hidden = [width * (inputs + bias) for inputs in sizes[:-1]]
    shapes = [(module.in_features, module.out_features) for module in linears(built.network)]
    assert shapes == [(4, hidden[0]), (hidden[0], 5), (5, hidden[1]), (hidden[1], 3)]
    random = sum(weight.count for weight in built.ticket.weights.values())
    by_hand = sum(h * (i + o + bias) for h, i, o in zip(hidden, sizes, sizes[1:], strict=False))
    assert built.ticket.prunable == random == by_hand
    kept = sum(int(parameter.count_nonzero()) for parameter in built.network.parameters())
    assert 0 < kept == built.ticket.kept < random


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("epsilon", [0.1, 0.01])
def test_no_network_that_fits_is_below_the_packing_bound(size, epsilon):
    built = construct(gaussian(size, size), epsilon)
    assert built.within
    assert built.ticket.prunable >= size**2 * math.log2(1.0 / (2.0 * epsilon)) - 1.0
    (counts,) = built.counts
    assert counts.packing == bounds.packing_parameters(size, epsilon) <= counts.prunable == built.ticket.prunable
    assert counts.kept == built.ticket.kept
    assert counts.hidden == built.widths[0] * size
    logarithm = math.log(4 * size**2 / min(epsilon, 0.01))  # theorem 1 for one layer, failure 0.01
    assert 2 * counts.constant * logarithm == pytest.approx(built.widths[0])


def test_the_ticket_says_where_it_comes_from():
    built = construct(gaussian(3, 2), 0.05, width=10, radius=2.0, norm="linf")
    provenance = built.ticket.provenance
    assert provenance["algorithm"] == "relu_diamond"
    assert provenance["options"] == {"epsilon": 0.05, "radius": 2.0, "norm": "linf"}
    assert provenance["widths"] == [10]


def broken(value):
    target = gaussian(3, 2)
    target[0].weight.data[0, 0] = value
    return target


@pytest.mark.parametrize(
    ("target", "options", "sentence"),
    [
        (gaussian(3, 2), {"construction": "malach_2"}, "Unknown construction 'malach_2'; known are"),
        (gaussian(3, 2), {"epsilon": 0.0}, r"epsilon=0\.0 must be a positive number"),
        (gaussian(3, 2), {"epsilon": -1.0}, r"epsilon=-1\.0 must be a positive number"),
        (gaussian(3, 2), {"epsilon": math.nan}, "epsilon=nan must be a positive number"),
        (gaussian(3, 2), {"width": 0}, "width=0 is not a number of hidden units"),
        (gaussian(3, 2), {"width": 8.5}, r"width=8\.5 is not a number of hidden units"),
        (broken(1e60), {}, r"weights of up to 1e\+60; random weights are float32"),
        (gaussian(3, 2), {"radius": 0.0}, r"radius=0\.0 must be a positive number"),
        (gaussian(3, 2), {"radius": -1.0}, r"radius=-1\.0 must be a positive number"),
        (gaussian(3, 2), {"radius": math.inf}, "radius=inf must be a positive number"),
        (gaussian(3, 2), {"radius": math.nan}, "radius=nan must be a positive number"),
        (gaussian(3, 2), {"norm": "l1"}, "Unknown norm 'l1'; known are l2, linf"),
        (gaussian(3, 2), {"seed": -1}, "seed=-1 is out of range"),
        (broken(math.nan), {}, r"0\.weight holds NaN or infinity"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)), {}, "is for fully connected targets"),
        (nn.Linear(3, 2), {}, r"is a Linear; give an nn\.Sequential"),
        (gaussian(3, 4, 2), {"construction": "linear_diamond"}, "is for linear targets, and this one has ReLUs"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_what_cannot_be_built_is_refused_before_anything_is_drawn(draws, target, options, sentence):
    with pytest.raises(SupermaskError, match=sentence) as caught:
        construct(target, **{"epsilon": 0.01, **options})
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert draws.tensors == []


class Doubled(nn.Linear):
    """A Linear that is none."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_target_that_computes_something_else_than_it_says_is_refused():
    hooked = nn.Sequential(nn.Linear(3, 2))
    hooked[0].register_forward_hook(lambda module, inputs, output: output + 1)
    for target in (hooked, nn.Sequential(Doubled(3, 2))):
        with pytest.raises(SupermaskError, match="does not compute what its Linear and ReLU modules say"):
            construct(target, 0.1, width=20)
