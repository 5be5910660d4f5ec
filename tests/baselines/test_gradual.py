"""Gradual magnitude pruning against a version of itself that sorts lists."""

from dataclasses import replace
from itertools import pairwise

import pytest
from plain_training import OPTIMIZERS, SGD, Plain, assert_as_plain, counts, flat, shaped, watched, work

from supermask import SupermaskError
from supermask.baselines.during_training.gradual import Gradual

METHOD = Gradual(interval=7, begin=0.25, end=0.8)
FIRST, LAST = 14, 45  # of the 56 steps: the ramp's ends; 31 steps between them are six intervals and a step
FINAL = 0.1


def sparsity(step):
    """Equation 1 of Zhu & Gupta 2018 with an initial sparsity of 0."""
    final = 1 - FINAL
    return final + (0 - final) * (1 - (step - FIRST) / (LAST - FIRST)) ** 3


def kept_of(size, step):
    """Return how many weights of a layer are left after a step, by the schedule alone."""
    times = [*range(FIRST + METHOD.interval, LAST, METHOD.interval), LAST]
    past = [time for time in times if time <= step]
    return round((1 - sparsity(past[-1])) * size) if past else size


def prune_plainly(plain, step, together):
    """Keep the largest of what is left: of each layer, or of all layers together."""
    left = [(name, i) for name, mask in plain.masks.items() for i, there in enumerate(flat(mask)) if there]
    weights = {name: flat(plain.parameters[name]) for name in plain.masks}
    left.sort(key=lambda place: -abs(weights[place[0]][place[1]]))  # a stable sort: the first of equals comes first
    for names in [list(plain.masks)] if together else [[name] for name in plain.masks]:
        size = sum(len(weights[name]) for name in names)
        kept = set([place for place in left if place[0] in names][: kept_of(size, step)])
        for name in names:
            there = [(name, i) in kept for i in range(len(weights[name]))]
            plain.masks[name] = shaped(there, plain.masks[name])
    plain.silence()


@OPTIMIZERS
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_it_is_what_its_plain_version_is_at_every_step(recipe, scope):
    task = work(recipe, density=FINAL)
    network = replace(METHOD, scope=scope).network(task)
    seen = watched(network)
    task.train(network)
    plain = Plain(task, task.whole)
    for step in range(task.steps):
        plain.update(step, plain.gradients(step))
        prune_plainly(plain, step + 1, scope == "global")
        assert_as_plain(seen, plain, step)


def test_counts_follow_the_cubic_and_the_last_is_exact():
    task = work(density=FINAL)
    network = METHOD.network(task)
    seen = watched(network)
    task.train(network)
    sizes = {name: weight.numel() for name, weight in network.weights().items()}
    for step, record in enumerate(seen, 1):
        assert counts(record["masks"]) == {name: kept_of(size, step) for name, size in sizes.items()}
        assert record["complete"] == (step >= LAST)
    assert counts(network.masks()) == {"1.weight": 154, "3.weight": 24}
    falls = [step for step, (a, b) in enumerate(pairwise(seen), 2) if counts(a["masks"]) != counts(b["masks"])]
    assert falls == [21, 28, 35, 42, LAST]


def test_what_was_pruned_does_not_come_back():
    task = work(density=FINAL)
    network = METHOD.network(task)
    seen = watched(network)
    task.train(network)
    for before, after in pairwise(seen):
        assert not any((after["masks"][name] & ~mask).any() for name, mask in before["masks"].items())


def test_what_was_pruned_does_not_come_back_where_weights_are_equal():
    network = METHOD.network(work(density=FINAL))
    network.steps = FIRST + METHOD.interval - 1
    network.step()
    before = network.masks()
    for weight in network.weights().values():
        weight.zero_()  # all that is left is as small as what was pruned
    network.steps = FIRST + 2 * METHOD.interval - 1
    network.step()
    for name, mask in network.masks().items():
        assert not (mask & ~before[name]).any()
        assert int(mask.sum()) == kept_of(mask.numel(), FIRST + 2 * METHOD.interval)


def test_the_layers_of_a_global_scope_compete():
    task = work(density=FINAL)
    found = replace(METHOD, scope="global").run(task)
    assert sum(counts(found.subject.masks()).values()) == round(FINAL * 1776)
    assert counts(found.subject.masks()) != {"1.weight": 154, "3.weight": 24}


def test_a_network_is_as_complete_as_the_state_that_it_takes_up():
    task = work(density=FINAL)
    network = METHOD.network(task)
    states, step = [], network.step
    network.step = lambda: (step(), states.append(network.state_dict()))[0]
    task.train(network)
    for done in (LAST - 1, LAST, LAST - 1):
        network.load_state_dict({**states[done - 1], "steps": done})
        assert network.complete == (done == LAST)


def test_a_run_that_ends_before_the_ramp_is_refused():
    with pytest.raises(SupermaskError, match="as sparse as was asked; give it more steps"):
        METHOD.run(work(replace(SGD, epochs=0)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"interval": 0}, "interval=0 is too small"),
        ({"begin": -0.1}, "begin=-0.1 is out of range"),
        ({"end": 1.5}, "end=1.5 is out of range"),
        ({"begin": 0.5, "end": 0.5}, "begin=0.5 must be smaller than end=0.5"),
        ({"scope": "erk"}, "unknown scope 'erk'; known are layer, global"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(SupermaskError, match=says):
        Gradual(**options)
