"""Counting what a superposition gets right, against a count by hand."""

import pytest
import torch
from small_tasks import any_tickets, small

from supermask import SupermaskError
from supermask.superposition import Binary, EachMask, Measured, OneShot, Superposition, measure


def drawn(sizes=(7, 3, 5)):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 1, 8, 8, generator=generator), torch.randint(30, (size,), generator=generator))
        for size in sizes
    ]


def superposition():
    return Superposition(small(), any_tickets(small))


def by_hand(superposition, tests, infer):
    counts = [0, 0, 0, 0]
    for task, (inputs, labels) in enumerate(tests):
        for place in range(len(labels)):
            found = infer(inputs, place, task)
            right = int(superposition.outputs(inputs[place][None], found).argmax()) == int(labels[place])
            for number, counted in enumerate((True, found == task, right, right and found == task)):
                counts[number] += counted
    return Measured(*counts)


def labels_that_are_often_right(superposition, tests):
    made = []
    for task, (inputs, labels) in enumerate(tests):
        guesses, others = (superposition.outputs(inputs, one).argmax(1) for one in (task, (task + 1) % 3))
        turn = torch.arange(len(labels)) % 3
        made.append((inputs, torch.where(turn == 0, labels, torch.where(turn == 1, guesses, others))))
    return made


@pytest.mark.parametrize("method", [OneShot(), Binary(), EachMask()], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 4, 100])
def test_counts_are_those_by_hand(method, batch):
    tasks = superposition()
    parts = labels_that_are_often_right(tasks, drawn())

    def infer(inputs, place, task):
        start = place - place % batch
        return tasks.infer(inputs[start : start + batch], method)

    assert measure(tasks, parts, method, batch=batch) == by_hand(tasks, parts, infer)


def test_a_task_that_is_given_is_right():
    tasks = superposition()
    parts = labels_that_are_often_right(tasks, drawn())
    found = measure(tasks, parts)
    assert found == by_hand(tasks, parts, lambda inputs, place, task: task)
    assert found.inferred == found.total == 15
    assert found.accuracy == found.correct / 15 > 0.3


def test_no_examples_are_none_right():
    assert measure(superposition(), drawn((0, 0))) == Measured(0, 0, 0, 0)
    assert Measured(0, 0, 0, 0).accuracy == 0.0
    assert measure(superposition(), drawn((0, 4)), OneShot()).total == 4


@pytest.mark.parametrize(("sizes", "batch"), [((), 1), ((1, 1, 1, 1), 1), ((1,), 0)])
def test_what_cannot_be_measured_is_refused(sizes, batch):
    with pytest.raises(SupermaskError, match="cannot be measured"):
        measure(superposition(), drawn(sizes), OneShot(), batch=batch)
