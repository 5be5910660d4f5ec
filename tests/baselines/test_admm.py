"""ADMM pruning against a version of itself that keeps W, Z and U in lists."""

from dataclasses import replace

import pytest
import torch
from plain_training import OPTIMIZERS, SGD, Plain, assert_as_plain, counts, flat, shaped, watched, work

from supermask import SupermaskError
from supermask.baselines.during_training.admm import ADMM

METHOD = ADMM(rho=0.3, interval=5, warm=0.25, penalised=0.5)
FIRST, LAST = 14, 42  # of the 56 steps
KEPT = {"1.weight": 154, "3.weight": 24}


def largest_of(values, count):
    return set(sorted(range(len(values)), key=lambda i: -abs(values[i]))[:count])


def penalise_plainly(plain, step, gradients, z, u):
    """Do what precedes a step: Z and U change at every fifth of the phase, and their gradient is added."""
    if not FIRST <= step < LAST:
        return
    for name, count in KEPT.items():
        w = flat(plain.parameters[name])
        if step == FIRST:
            u[name] = [0.0] * len(w)
        if (step - FIRST) % 5 == 0:
            both = [a + b for a, b in zip(w, u[name], strict=True)]
            kept = largest_of(both, count)
            z[name] = [value if i in kept else 0.0 for i, value in enumerate(both)]
            if step > FIRST:
                u[name] = [b + a - c for a, b, c in zip(w, u[name], z[name], strict=True)]
        pull = [0.3 * (a - c + b) for a, b, c in zip(w, u[name], z[name], strict=True)]
        gradients[name] = gradients[name] + shaped(pull, gradients[name])


@OPTIMIZERS
def test_it_is_what_its_plain_version_is_at_every_step(recipe):
    task = work(recipe, density=0.1)
    network = METHOD.network(task)
    seen = watched(network)
    task.train(network)
    plain, z, u = Plain(task, task.whole), {}, {}
    for step in range(task.steps):
        gradients = plain.gradients(step)
        penalise_plainly(plain, step, gradients, z, u)
        plain.update(step, gradients)
        if step + 1 == LAST:
            for name, count in KEPT.items():
                kept = largest_of(flat(plain.parameters[name]), count)
                plain.masks[name] = shaped([i in kept for i in range(plain.masks[name].numel())], plain.masks[name])
            plain.silence()
        assert_as_plain(seen, plain, step)
    assert max(abs(value) for value in u["1.weight"]) > 0.01, "the test needs a U that counts"


def test_it_is_whole_until_it_is_pruned_and_complete_only_then():
    task = work(density=0.1)
    network = METHOD.network(task)
    assert not network.complete
    seen = watched(network)
    task.train(network)
    for step, record in enumerate(seen, 1):
        assert counts(record["masks"]) == ({"1.weight": 1536, "3.weight": 240} if step < LAST else KEPT)
        assert record["complete"] == (step >= LAST)


def test_by_default_the_phases_are_thirds_and_z_changes_once_an_epoch():
    task = work(density=0.1)
    network = ADMM().network(task)
    seen, changes, penalised = watched(network), [], []
    before = network.before_step

    def watching(optimizer):
        gradient = network.model[1].weight.grad.clone()
        z = network.state_dict()["z"]
        before(optimizer)
        if z.get("1.weight") is not network.state_dict()["z"].get("1.weight"):
            changes.append(network.steps)
        if not torch.equal(gradient, network.model[1].weight.grad):
            penalised.append(network.steps)

    network.before_step = watching
    task.train(network)
    assert changes == [19, 33]  # 56 / 3 = 18.7, and an epoch of 14 steps later
    assert (penalised[0], penalised[-1]) == (19, 36)
    assert [record["complete"] for record in seen].index(True) == 36


def test_the_penalty_draws_what_is_to_be_pruned_to_zero():
    def left_over(rho):
        task = work(density=0.1)
        network = ADMM(rho=rho, interval=5, warm=0.25, penalised=0.5).network(task)
        seen = watched(network)
        task.train(network)
        before, mask = seen[LAST - 2]["weights"]["1.weight"], seen[LAST - 1]["masks"]["1.weight"]
        return float(before[~mask].norm() / before.norm())

    assert left_over(1.0) < 0.5 * left_over(0.0)


def test_the_state_holds_z_and_u():
    task = work(density=0.1)
    network = METHOD.network(task)
    optimizer = SGD.make_optimizer(network.parameters())
    network.steps = FIRST
    network.before_step(optimizer)
    state = network.state_dict()
    other = METHOD.network(task)
    other.load_state_dict(state)
    for key in ("z", "u"):
        assert all(torch.equal(other.state_dict()[key][name], state[key][name]) for name in KEPT)
    assert {name: int((state["z"][name] != 0).sum()) for name in KEPT} == KEPT
    assert not other.complete


def test_a_run_without_a_step_is_refused():
    with pytest.raises(SupermaskError, match="as sparse as was asked; give it more steps"):
        METHOD.run(work(replace(SGD, epochs=0)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rho": -1.0}, "rho=-1.0 is negative"),
        ({"interval": -1}, "interval=-1 is too small"),
        ({"warm": 1.1}, "warm=1.1 is out of range"),
        ({"warm": 0.7, "penalised": 0.7}, r"warm \+ penalised=1.4 is out of range"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(SupermaskError, match=says):
        ADMM(**options)
