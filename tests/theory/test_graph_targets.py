"""Targets that are no chains: each operation against torch in float64, and certificates against searches for errors."""

import copy
import json

import numpy as np
import pytest
import torch
from graph_targets import OPERATIONS, Beside, Call, Skip, conv, drawn, operation, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cnns import noise
from torch import nn
from torch.nn.utils import prune

import supermask
from supermask.errors import SupermaskError
from supermask.models.sequence import from_description
from supermask.models.wired import Add, Wired
from supermask.ticket import Ticket
from theory import construct
from theory.ascent import norms
from theory.domains import Around, Ball, Box, Nonnegative
from theory.norms import operator_norm, schur_norm
from theory.target import TargetLayer, read_target

NORMS = ("l2", "linf")
DOMAINS = {
    "ball": lambda shape, seed: Ball(0.7),
    "nonnegative": lambda shape, seed: Nonnegative(1.5),
    "box": lambda shape, seed: Box(-0.2, 0.5),
    "around": lambda shape, seed: Around(noise(3, *shape, seed=seed), 0.05),
}


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr("theory.ascent.STEPS", 5)
    monkeypatch.setattr("theory.ascent.STARTS", 24)


def built_of(target, shape, **options):
    """Return a built network whose errors are easy to see: ten paths for a weight, or a few more."""
    options = {"construction": "convolution", "width": 24, "progress": False, "input_shape": shape, **options}
    return construct(target, 0.1, **options)


def worst(target, network, domain, shape, norm, seed=0):
    """Return the largest difference that a search of its own finds over a domain."""
    x, best = domain.project(3.0 * noise(40, *shape, seed=seed), domain.ascends_by(norm)), 0.0
    for step in range(12):
        at = domain.place(x).requires_grad_()
        found = norms(target(at) - network(at), norm)
        best = max(best, float(found.detach().max()))
        (gradient,) = torch.autograd.grad(found.sum(), at)
        lengths = gradient.flatten(1).norm(dim=1).clamp(min=1e-300).reshape(-1, *[1] * (x.dim() - 1))
        way = gradient.sign() if domain.ascends_by(norm) == "linf" else gradient / lengths
        x = domain.project(x + 0.5 * (1.0 - step / 12) * way, domain.ascends_by(norm))
    return best


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_read_built_and_written(name):
    target, shape = operation(name)
    x = noise(6, *shape, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(read_target(target, shape)(x), target(x), rtol=1e-12, atol=1e-12)
    built = built_of(target, shape)
    ticket = Ticket.from_bytes(built.ticket.to_bytes())
    network = ticket.apply(from_description(json.loads(json.dumps(ticket.provenance["model"]["modules"]))).double())
    assert torch.equal(network(x), built.network(x))
    for pair, layer in zip(built.effective, built.target.layers, strict=True):
        assert pair.positive.shape == layer.kernel.shape
    found = worst(target, network, Ball(1.0), shape, "l2")
    assert 0.0 < found <= built.certificate.upper
    assert built.certificate.lower <= built.certificate.upper


def check_certificate(seed, where, norm):
    """Build a random network, look for an error above its certificate, and return how near the search came."""
    target, shape = drawn(seed)
    domain = DOMAINS[where](shape, seed)
    built = built_of(target, shape, domain=domain, norm=norm, seed=seed, grouped=seed % 2 == 1)
    found = worst(target, built.network, domain, shape, norm, seed)
    assert found <= built.certificate.upper, f"{found} is above {built.certificate.upper}"
    assert built.certificate.lower <= built.certificate.upper
    if where == "ball":
        near = built.certify(Around(0.2 * noise(3, *shape, seed=seed), 0.02))
        around = worst(target, built.network, near.domain, shape, norm, seed)
        assert max(near.lower, around) <= near.upper
    return found / built.certificate.upper


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("where", DOMAINS)
@pytest.mark.parametrize("seed", range(4))
def test_no_error_of_a_random_graph_is_above_its_certificate(seed, where, norm):
    check_certificate(seed, where, norm)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("where", DOMAINS)
def test_no_error_of_many_random_graphs_is_above_its_certificate(where, norm):
    for seed in range(100, 140):
        check_certificate(seed, where, norm)


def test_around_points_a_residual_network_is_followed_through_its_sums():
    target = trained(nn.Sequential(conv(2, 3), nn.ReLU(), Skip(conv(3, 3)), nn.ReLU(), Skip(conv(3, 3)), nn.ReLU()))
    points = noise(5, 2, 5, 4)
    built = built_of(target, (2, 5, 4), width=48, domain=Around(points, 0.0))
    with torch.no_grad():
        found = float(norms(target(points) - built.network(points), "l2").max())
    assert found <= built.certificate.upper <= 1.001 * found + 1e-12


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("stride", [1, 2])
def test_norms_of_groups_are_those_of_the_whole_matrix(norm, stride):
    kernel = noise(6, 2, 3, 3).numpy()
    layer = TargetLayer(kernel, None, (5, 4), (stride, stride), convolutional=True, groups=3)
    eye = torch.eye(120, dtype=torch.float64).reshape(120, 6, 5, 4)
    order = 2 if norm == "l2" else np.inf
    exact = np.linalg.norm(layer(eye).flatten(1).T.numpy(), order)
    sizes = np.linalg.norm(layer.affine(eye, np.abs(kernel), np.zeros(6)).flatten(1).T.numpy(), order)
    assert exact <= operator_norm(layer, kernel, norm) <= 1.4 * exact
    assert sizes <= schur_norm(layer, np.abs(kernel), norm)


def test_a_skip_has_no_weights_in_the_random_network():
    target = trained(nn.Sequential(conv(2, 2), nn.ReLU(), Skip(conv(2, 2))))
    built = built_of(target, (2, 5, 4))
    assert isinstance(built.network, Wired)
    assert len([name for name in built.ticket.masks if name.endswith("weight")]) == 4
    (total,) = (place for place, module in enumerate(built.network) if isinstance(module, Add))
    assert built.network.sources[total] == (total, 5)  # the second hop, and the ReLU behind the first pair


def test_a_depthwise_layer_takes_no_weights_between_channels():
    target = trained(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)))
    built = built_of(target, (8, 4, 4), width=None)
    full = built_of(trained(nn.Sequential(nn.Conv2d(8, 8, 3))), (8, 4, 4), width=None)
    assert built.within
    assert 4 * built.ticket.prunable < full.ticket.prunable


def test_a_model_under_pruning_is_read_with_its_masks():
    target = trained(nn.Sequential(conv(2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 2)))
    prune.l1_unstructured(target[0], "weight", 0.5)
    prune.random_unstructured(target[3], "weight", 0.5)
    before = copy.copy(target[0].__dict__["weight"])
    read = read_target(target, (2, 5, 4))
    assert np.array_equal(read.layers[0].kernel == 0.0, target[0].weight_mask.numpy() == 0.0)
    x = noise(4, 2, 5, 4)
    with torch.no_grad():
        torch.testing.assert_close(read(x), target(x), rtol=1e-12, atol=1e-12)
    assert prune.is_pruned(target)
    assert target[0].__dict__["weight"] is not None
    assert torch.equal(before, target[0].weight_orig * target[0].weight_mask)


@pytest.mark.parametrize("name", ["resnet20", "wide_resnet_16_8"])
def test_the_projects_own_residual_networks_are_read(name):
    torch.manual_seed(0)
    target = trained(supermask.models.build(name, width=0.1))
    x = noise(2, 3, 8, 8)
    with torch.no_grad():
        wanted = target(x)
        torch.testing.assert_close(read_target(target, (3, 8, 8))(x), wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max())


@settings(max_examples=40, deadline=None)
@given(data=st.data(), groups=st.integers(1, 2), flat=st.booleans())
def test_a_transposed_convolution_of_any_geometry_is_a_convolution(data, groups, flat):
    taps, stride, dilation = (tuple(data.draw(st.integers(1, most)) for _ in range(2 - flat)) for most in (3, 3, 2))
    padding = tuple(data.draw(st.integers(0, gap * (tap - 1))) for tap, gap in zip(taps, dilation, strict=True))
    more = tuple(data.draw(st.integers(0, max(pair) - 1)) for pair in zip(stride, dilation, strict=True))
    kind = nn.ConvTranspose1d if flat else nn.ConvTranspose2d
    target = trained(nn.Sequential(kind(2 * groups, groups, taps, stride, padding, more, groups, dilation=dilation)))
    shape = (2 * groups, 4, 3)[: 3 - flat]
    x = noise(2, *shape)
    try:
        wanted = target(x)
    except RuntimeError:  # nothing is left of the image
        return
    torch.testing.assert_close(read_target(target, shape)(x), wanted, rtol=1e-12, atol=1e-12)


def test_one_slope_for_all_channels_is_a_leaky_relu():
    target = trained(nn.Sequential(conv(2, 2), slopes(0.25, 0.25), conv(2, 1)))
    target[1].weight.data[:] = 0.25
    x = noise(2, 2, 5, 4)
    with torch.no_grad():
        torch.testing.assert_close(read_target(target, (2, 5, 4))(x), target(x), rtol=1e-12, atol=1e-12)


def slopes(*each):
    module = nn.PReLU(len(each))
    module.weight.data[:] = torch.tensor(each)
    return module


class Early(nn.Module):
    """A ReLU in place on what a skip reads."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = conv(2, 2), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.conv(x)
        return self.conv(self.act(y)) + y


REFUSED = [
    (Early(), r"^The target's act changes in place what add in forward reads too; leave it as it is\.$"),
    (nn.Sequential(Call(lambda x: x * x), conv(2, 2)), r"mul in 0\.forward multiplies two tensors"),
    (nn.Sequential(conv(2, 2), Call(lambda x: torch.sub(x, x, alpha=2))), r"sub in 1\.forward subtracts with alpha=2"),
    (nn.Sequential(conv(2, 2), Call(lambda x: x.clamp(0, 6))), r"clamps between 0 and 6; only clamp\(min=0\)"),
    (nn.Sequential(conv(2, 2), nn.Threshold(0.1, 0)), r"1 has a threshold of its own"),
    (nn.Sequential(conv(2, 2), slopes(0.1, 0.2)), r"1 has a slope for each channel; only one for all"),
    (nn.Sequential(conv(2, 2), slopes(-0.1, -0.1)), r"1 has a slope of -0\.1"),
    (nn.Sequential(nn.ConvTranspose2d(2, 1, 2, padding=2)), r"0 cuts off more than its kernel adds"),
    (nn.Sequential(conv(2, 2), nn.Flatten(), nn.Unflatten(1, (2, 3, 3))), r"2 takes 18 inputs, but gets 40"),
    (nn.Sequential(conv(2, 2), nn.Flatten(), nn.Unflatten(1, (2, 20)), nn.Conv1d(2, 1, 1)), r"2 makes sizes \(2, 20\)"),
    (nn.Sequential(conv(2, 2), Call(lambda x: torch.cat([x, x], 2))), r"cat in 1\.forward puts .* along dimension 2"),
    (nn.Sequential(conv(2, 2), Call(lambda x: x.mean(1))), r"mean in 1\.forward averages over dimensions \(1,\)"),
    (nn.Sequential(conv(2, 2), Call(lambda x: x.mean())), r"mean in 1\.forward averages over the batch too"),
    (
        nn.Sequential(conv(2, 2), Call(lambda x: x * torch.ones(4))),
        r"computes with a tensor of \(4,\); only",
    ),
    (nn.Sequential(Skip(conv(2, 3))), r"add in 0\.forward adds tensors of 3x5x4 and 2x5x4; give them one shape\.$"),
    (nn.Sequential(Beside(conv(2, 2, stride=2))), r"cat in 0\.forward puts tensors side by side of 1x5x4 and 1x3x2"),
    (nn.Sequential(conv(2, 2), nn.LeakyReLU(-0.5)), r"1 has a slope of -0\.5; give one from 0 to 1"),
    (nn.Sequential(conv(2, 2), nn.GroupNorm(1, 2)), r"1 is a GroupNorm; only"),
    (nn.Sequential(conv(2, 2), Call(lambda x: x.sigmoid() * x)), r"calls sigmoid in 1\.forward; only"),
]


@pytest.mark.parametrize(("target", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_no_graph_has_is_refused_in_one_sentence(target, sentence):
    with pytest.raises(SupermaskError, match=sentence) as caught:
        read_target(target, (2, 5, 4))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
