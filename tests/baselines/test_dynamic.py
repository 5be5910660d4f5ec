"""RigL and SET against versions of themselves that sort and draw from lists."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from plain_training import OPTIMIZERS, SGD, Plain, assert_as_plain, counts, flat, shaped, watched, work
from torch import nn

from supermask import SupermaskError, data
from supermask.baselines.during_training.dynamic import drawn
from supermask.baselines.during_training.rigl import RigL
from supermask.baselines.during_training.set import SET
from supermask.masking.budget import ERK
from supermask.random.keyed import keyed_permutation

SOME_RIGL = RigL(interval=6, alpha=0.4, end=0.8)
SOME_SET = SET(zeta=0.25, interval=9)
BOTH = pytest.mark.parametrize("method", [SOME_RIGL, SOME_SET], ids=["rigl", "set"])


def rewired(seen):
    """Return the steps, counted from 0, at which the first layer's mask changed."""
    masks = [record["masks"]["1.weight"] for record in seen]
    return [step for step, (before, after) in enumerate(pairwise(masks), 1) if not torch.equal(before, after)]


def rewire_plainly(plain, name, staying, growing):
    """Let a layer keep `staying` and grow the first of `growing`, given as lists of places."""
    before = flat(plain.masks[name])
    stay = set(staying)
    grown = [place for place in growing if place not in stay][: sum(before) - len(staying)]
    after = stay.union(grown)
    plain.masks[name] = shaped([i in after for i in range(len(before))], plain.masks[name])
    for store in (plain.first[name], plain.second[name]):
        values = flat(store)
        for place in grown:
            values[place] = values[place] if before[place] else 0.0
        store.copy_(shaped(values, store))
    plain.silence()


def rigl_plainly(plain, step, gradients):
    if step % SOME_RIGL.interval or step >= 45:  # 0.8 of 56 steps
        return False
    for name in plain.masks:
        weights, slopes, left = flat(plain.parameters[name]), flat(gradients[name]), flat(plain.masks[name])
        active = [i for i in range(len(left)) if left[i]]
        dropped = int(0.2 * (1 + math.cos(math.pi * step / 45)) * len(active))
        staying = sorted(active, key=lambda i: -abs(weights[i]))[: len(active) - dropped]
        growing = sorted(range(len(left)), key=lambda i: -abs(slopes[i]))
        rewire_plainly(plain, name, staying, growing)
    return True


def set_plainly(plain, step, gradients):
    if step == 0 or step % SOME_SET.interval:
        return False
    for name in plain.masks:
        weights, left = flat(plain.parameters[name]), flat(plain.masks[name])
        positive = sorted((i for i in range(len(left)) if left[i] and weights[i] > 0), key=lambda i: weights[i])
        negative = sorted((i for i in range(len(left)) if left[i] and weights[i] < 0), key=lambda i: -weights[i])
        staying = positive[int(0.25 * len(positive)) :] + negative[int(0.25 * len(negative)) :]
        free = [i for i in range(len(left)) if i not in staying]
        order = keyed_permutation(len(free), 0, "rewiring", step, name)
        rewire_plainly(plain, name, staying, [free[i] for i in order])
    return True


@OPTIMIZERS
@pytest.mark.parametrize(
    ("method", "plainly"), [(SOME_RIGL, rigl_plainly), (SOME_SET, set_plainly)], ids=["rigl", "set"]
)
def test_it_is_what_its_plain_version_is_at_every_step(method, plainly, recipe):
    task = work(recipe)
    network = method.network(task)
    plain = Plain(task, network.ticket())
    seen = watched(network)
    task.train(network)
    rewirings = 0
    for step in range(task.steps):
        gradients = plain.gradients(step)
        if plainly(plain, step, gradients):
            rewirings += 1
        else:
            plain.update(step, gradients)
        assert_as_plain(seen, plain, step)
    assert rewirings == (8 if method is SOME_RIGL else 6)


@BOTH
def test_every_layer_keeps_its_erdos_renyi_count_at_every_step(method):
    task = work()
    network = method.network(task)
    seen = watched(network)
    first = network.masks()
    task.train(network)
    shapes = {name: tuple(mask.shape) for name, mask in first.items()}
    expected = {pool.names[0]: pool.kept for pool in ERK().pools(shapes, 0.3)}
    assert expected == {"1.weight": 384, "3.weight": 149}
    assert [counts(record["masks"]) for record in seen] == [expected] * task.steps
    assert counts(first) == expected
    assert len(rewired(seen)) >= 6


@BOTH
def test_the_same_density_in_each_layer_is_an_option(method):
    network = type(method)(scope="layer").network(work())
    assert counts(network.masks()) == {"1.weight": round(0.3 * 1536), "3.weight": round(0.3 * 240)}


@BOTH
@OPTIMIZERS
def test_grown_weights_and_their_state_in_the_optimizer_start_at_zero(method, recipe):
    task = work(recipe)
    network = method.network(task)
    rewire, grown = network.before_step, []

    def watching(optimizer):
        before = network.masks()
        state = {name: dict(optimizer.state[slot.parameter]) for name, slot in network.prunable.items()}
        moved = {n: {k: v.clone() for k, v in state[n].items() if v is not None} for n in state}
        weights = {name: weight.clone() for name, weight in network.weights().items()}
        rewire(optimizer)
        for name, mask in network.masks().items():
            new = mask & ~before[name]
            stayed = mask & before[name]
            assert not network.weights()[name][new].any()
            assert torch.equal(network.weights()[name][stayed], weights[name][stayed])
            for key, value in optimizer.state[network.prunable[name].parameter].items():
                if value.shape == mask.shape:
                    assert not value[new].any()
                    assert torch.equal(value[~new], moved[name][key][~new])
                    grown.append(int(new.sum()) * bool(moved[name][key][new].any()))
                else:
                    assert torch.equal(value, moved[name][key])

    network.before_step = watching
    task.train(network)
    assert sum(grown) > 50, "the test needs weights that had some state before they were grown"


@BOTH
def test_a_rewiring_takes_the_place_of_a_step(method):
    task = work()
    network = method.network(task)
    seen = watched(network)
    biases = []
    step = network.step
    network.step = lambda: (step(), biases.append(network.model[1].bias.detach().clone()))[0]
    task.train(network)
    still = [step for step, (a, b) in enumerate(pairwise(biases), 1) if torch.equal(a, b)]
    assert still == (list(range(6, 45, 6)) if method is SOME_RIGL else list(range(9, 56, 9)))
    changed = [
        step
        for step, (a, b) in enumerate(pairwise(seen), 1)
        if (a["masks"]["1.weight"] != b["masks"]["1.weight"]).any()
    ]
    assert changed == still


@BOTH
def test_a_layer_that_is_kept_whole_is_left_alone(method):
    task = work(density=0.6)  # of the second layer's weights ERK would keep more than all
    network = method.network(task)
    assert network.masks()["3.weight"].all()
    rewire = network.before_step

    def watching(optimizer):
        before = network.weights()["3.weight"].clone()
        rewire(optimizer)
        assert torch.equal(network.weights()["3.weight"], before)

    network.before_step = watching
    seen = watched(network)
    task.train(network)
    assert all(record["masks"]["3.weight"].all() for record in seen)


def test_by_default_rigl_drops_by_a_cosine_until_three_quarters():
    network = RigL().network(work(build=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))))
    network.steps = 0
    assert network.fraction == pytest.approx(0.3)
    network.steps = 21  # half of 42, which is 0.75 of 56
    assert network.fraction == pytest.approx(0.15)
    network.steps = 42
    assert network.fraction == pytest.approx(0.0)


def test_by_default_rigl_rewires_every_hundred_steps_from_the_first():
    network = RigL().network(work(replace(SGD, iterations=400)))
    optimizer, bias, rewirings = SGD.make_optimizer(network.parameters()), network.model[1].bias, []
    for network.steps in range(400):
        bias.grad = torch.ones_like(bias)
        network.before_step(optimizer)
        rewirings += [network.steps] * (bias.grad is None)  # no step is taken then
    assert rewirings == [0, 100, 200]


def test_by_default_set_rewires_after_each_epoch_but_the_last():
    task = work()
    network = SET().network(task)
    seen = watched(network)
    task.train(network)
    changed = [
        step
        for step, (a, b) in enumerate(pairwise(seen), 1)
        if (a["masks"]["1.weight"] != b["masks"]["1.weight"]).any()
    ]
    assert changed == [14, 28, 42]  # steps counted from 0: the first of each epoch of 14 but the first


def test_set_drops_what_is_exactly_zero_whatever_zeta_is():
    network = SET(zeta=0.0).network(work())
    mask = network.masks()["1.weight"]
    weight = network.weights()["1.weight"]
    places = mask.nonzero()[:7]
    weight[tuple(places.T)] = 0.0
    staying = network.staying(weight, mask)
    assert int((mask & ~staying).sum()) == 7
    assert not staying[tuple(places.T)].any()


def test_the_first_mask_is_the_same_for_both_and_another_for_another_seed():
    one, other, third = SOME_RIGL.network(work()), SOME_SET.network(work()), SOME_RIGL.network(work(seed=1))
    for name, mask in one.masks().items():
        assert torch.equal(mask, other.masks()[name])
        assert not torch.equal(mask, third.masks()[name])


def test_draws_are_spread_over_the_candidates_and_keyed():
    candidates = torch.arange(40).reshape(5, 8) % 2 == 0
    draws = torch.stack([drawn(candidates, 5, 0, "x", step) for step in range(2000)])
    assert (draws.sum((1, 2)) == 5).all()
    assert not draws[:, ~candidates].any()
    often = draws.float().mean(0)[candidates]  # 1/4 each; the standard error is 0.0097, five of them are 3e-7 a place
    assert ((often - 0.25).abs() < 0.05).all()
    assert torch.equal(drawn(candidates, 5, 0, "x", 3), draws[3])
    assert not torch.equal(drawn(candidates, 5, 1, "x", 3), draws[3])


def test_a_parameter_without_a_gradient_is_rewired_too():
    network = SOME_RIGL.network(work())
    optimizer = SGD.make_optimizer(network.parameters())
    first = counts(network.masks())
    network.before_step(optimizer)
    assert counts(network.masks()) == first


@pytest.mark.parametrize("channels_last", [False, True])
def test_filters_are_rewired_alike_in_any_memory_format(channels_last):
    def network():
        return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.Flatten()).append(
            nn.Linear(128, 10)
        )

    recipe = replace(SGD, epochs=1, channels_last=channels_last)
    task = work(recipe, build=network, data_set=data.load("synthetic", seed=0))
    subject = SOME_SET.network(task)
    task.train(subject)
    expected = SOME_SET.network(task)
    shapes = {name: tuple(mask.shape) for name, mask in expected.masks().items()}
    assert counts(subject.masks()) == {pool.names[0]: pool.kept for pool in ERK().pools(shapes, 0.3)}
    weights = subject.weights()
    assert not any(weights[name][~mask].any() for name, mask in subject.masks().items())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RigL(interval=0), "rigl: interval=0 is too small"),
        (lambda: RigL(alpha=1.5), "rigl: alpha=1.5 is out of range"),
        (lambda: RigL(end=-1.0), "rigl: end=-1.0 is out of range"),
        (lambda: RigL(scope="global"), "rigl: unknown scope 'global'; known are erk, layer"),
        (lambda: SET(zeta=2.0), "set: zeta=2.0 is out of range"),
        (lambda: SET(interval=-1), "set: interval=-1 is too small"),
        (lambda: SET(scope="global"), "set: unknown scope 'global'"),
    ],
)
def test_options_out_of_range_are_refused(make, says):
    with pytest.raises(SupermaskError, match=says):
        make()
