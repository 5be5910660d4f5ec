"""Directions, planes and surfaces against slow versions."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supermask import SupermaskError
from supermask.judge import filter_normalised, principal_plane, surface
from supermask.training.batch_norm import reestimate

SHAPES = {"conv.weight": (3, 2, 2, 2), "norm.weight": (3,), "fc.weight": (4, 5), "fc.bias": (4,)}


def drawn(seed, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.mark.parametrize("masked", [False, True])
def test_each_filter_has_the_length_of_the_networks(masked):
    direction, weights = drawn(0), drawn(1)
    masks = {name: each > 0 for name, each in drawn(2).items() if each.ndim >= 2}
    masks["fc.weight"][1] = False  # a filter that is pruned whole
    found = filter_normalised(direction, weights, masks if masked else None)
    for name, shape in SHAPES.items():
        if len(shape) < 2:
            assert not found[name].any()
            continue
        for channel in range(shape[0]):
            kept = masks[name][channel] if masked else torch.ones(shape[1:]) > 0
            own, theirs = weights[name][channel][kept].tolist(), direction[name][channel][kept].tolist()
            assert not found[name][channel][~kept].any()
            scale = math.sqrt(sum(w * w for w in own)) / (math.sqrt(sum(d * d for d in theirs)) or 1.0)
            assert found[name][channel][kept].tolist() == pytest.approx([d * scale for d in theirs])


def test_a_filter_without_length_stays_zero():
    zeros = {"a": torch.zeros(2, 3)}
    assert not filter_normalised(zeros, {"a": torch.ones(2, 3)})["a"].any()
    assert not filter_normalised({"a": torch.ones(2, 3)}, zeros)["a"].any()


def flat(state):
    return np.concatenate([each.double().numpy().reshape(-1) for each in state.values()])


def test_the_plane_is_that_of_the_singular_values():
    steps = [drawn(seed) for seed in range(7)]
    backwards = dict(reversed(steps[0].items()))
    found = principal_plane([backwards, *steps[1:]])
    differences = np.stack([flat(step) - flat(steps[-1]) for step in steps])
    _, lengths, rows = np.linalg.svd(differences, full_matrices=False)
    for axis in range(2):
        own = flat(found.directions[axis])
        sign = np.sign(own @ rows[axis])
        np.testing.assert_allclose(own, sign * rows[axis], atol=1e-12)
        np.testing.assert_allclose(found.coordinates[:, axis], differences @ own, atol=1e-12)
        assert found.explained[axis] == pytest.approx(lengths[axis] ** 2 / (lengths**2).sum())
        assert found.coordinates[0, axis] >= 0
    assert found.coordinates[-1].tolist() == [0.0, 0.0]


def test_a_trajectory_of_two_dimensions_is_met_exactly():
    base, one, other = drawn(0), drawn(1), drawn(2)
    steps = [
        {name: base[name] + a * one[name] + b * other[name] for name in base}
        for a, b in [(3, 1), (2, -1), (1, 0.5), (0.2, 0.1), (0, 0)]
    ]
    found = principal_plane(steps)
    assert sum(found.explained) == pytest.approx(1.0)
    for (a, b), step in zip(found.coordinates.tolist(), steps, strict=True):
        for name, each in found.point(a, b).items():
            torch.testing.assert_close(each, step[name], rtol=0, atol=1e-12)
    assert all(torch.equal(each, steps[-1][name]) for name, each in found.point(0, 0).items())


def test_a_trajectory_on_a_line_has_a_second_direction_that_explains_nothing():
    base, one = drawn(0), drawn(1)
    found = principal_plane([{name: base[name] + a * one[name] for name in base} for a in (3, 2, 0)])
    assert found.explained == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))
    first, second = (flat(direction) for direction in found.directions)
    assert (first @ first, second @ second, first @ second) == pytest.approx((1, 1, 0), abs=1e-12)


def test_pruned_weights_stay_zero_and_counters_take_no_part():
    mask = torch.arange(20).reshape(4, 5) % 3 == 0
    steps = [{"fc.weight": drawn(seed)["fc.weight"] * mask, "seen": torch.tensor(seed)} for seed in range(4)]
    found = principal_plane(steps)
    assert list(found.origin) == ["fc.weight"]
    assert not found.point(0.7, -2.0)["fc.weight"][~mask].any()


def test_the_extents_hold_the_trajectory():
    found = principal_plane([drawn(seed) for seed in range(5)])
    for axis, (low, high) in enumerate(found.extents(0.1)):
        own = found.coordinates[:, axis]
        width = float(own.max() - own.min())
        assert (low, high) == (
            pytest.approx(float(own.min()) - 0.1 * width),
            pytest.approx(float(own.max()) + 0.1 * width),
        )


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 4))


def batches():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 3, generator=generator), torch.randint(0, 4, (n,), generator=generator)) for n in (6, 3)]


@pytest.mark.parametrize("again", [False, True])
def test_a_surface_has_the_error_and_loss_of_each_point(again):
    model = network().train()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    origin = {name: each.detach().clone() for name, each in model.named_parameters()}
    directions = tuple({"0.weight": torch.randn(5, 3), "4.bias": torch.randn(4)} for _ in range(2))
    statistics = (lambda net: reestimate(net, [inputs for inputs, _ in batches()])) if again else None
    found = surface(
        model, origin, directions, iter(batches()), extents=((-1, 1), (0, 2)), points=3, statistics=statistics
    )
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert model.training
    assert (found.first.tolist(), found.second.tolist()) == ([-1, 0, 1], [0, 1, 2])
    inputs, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    other = network()
    for i, a in enumerate(found.first.tolist()):
        for j, b in enumerate(found.second.tolist()):
            moved = {
                name: each + sum(c * d[name] for c, d in zip((a, b), directions, strict=True))
                if name in directions[0]
                else each
                for name, each in origin.items()
            }
            other.load_state_dict({**before, **moved})
            if statistics:
                statistics(other)
            with torch.no_grad():
                logits = other.eval()(inputs)
            assert float(found.losses[i, j]) == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-5)
            assert float(found.errors[i, j]) == pytest.approx(float((logits.argmax(1) != labels).float().mean()))


def test_a_model_is_restored_when_a_point_fails():
    model = network()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    origin = {"0.weight": torch.zeros(5, 3)}

    def fail(net):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        surface(model, origin, ({}, {}), batches(), points=2, statistics=fail)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


ONE = {"a": torch.rand(2, 3)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: filter_normalised(ONE, {}), "direction of a does not have the shape"),
        (lambda: filter_normalised(ONE, ONE, {"a": torch.ones(3, 2) > 0}), "direction of a does not have the shape"),
        (lambda: principal_plane([ONE, ONE]), "2 states do not span a plane"),
        (lambda: principal_plane([ONE, ONE, {"b": torch.rand(2, 3)}]), "have other tensors"),
        (lambda: principal_plane([ONE, ONE, ONE]), "moves nowhere"),
        (lambda: principal_plane([ONE, ONE, {"a": ONE["a"] * math.nan}]), "holds NaN"),
        (lambda: principal_plane([{"a": torch.rand(1)} for _ in range(3)]), "A single weight has no plane"),
        (lambda: surface(network(), ONE, ({}, {}), batches()), r"origin has a tensor a of \(2, 3\), which the model"),
        (
            lambda: surface(network(), {}, (ONE, {}), batches()),
            r"direction has a tensor a of \(2, 3\), which the origin",
        ),
        (lambda: surface(network(), {}, ({}, {}), batches(), points=1), "points=1 is out of range"),
    ],
)
def test_what_has_no_plane_or_surface_is_refused(call, message):
    with pytest.raises(SupermaskError, match=message):
        call()
