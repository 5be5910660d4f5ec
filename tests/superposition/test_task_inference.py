"""Inferring the task: each method against a slow one, and better than chance on tasks that were learned.

False alarms: with 4 tasks and n independent examples, guessing reaches the bounds below with a probability under 1e-6
(binomial tail, computed in the test).
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from small_tasks import TASKS, any_tickets, examples_of, learned_tasks, learned_with_statistics, slow_gradient, small

from supermask import SupermaskError
from supermask.superposition import Binary, EachMask, Entropy, OneShot, Superfluous, Superposition

EXAMPLES = 50
"""Of each task."""


class Slopes:
    """Tasks whose gradient is a table: in every step the same numbers, for the tasks that are left."""

    def __init__(self, slopes):
        self.slopes, self.asked = torch.tensor(slopes, dtype=torch.float64), []

    def __len__(self):
        return len(self.slopes)

    def gradient(self, inputs, alphas, objective, among=None):
        self.asked.append(alphas)
        return self.slopes if among is None else self.slopes[among]


def drawn_images(count=3):
    return torch.randn(count, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def five_tasks():
    return Superposition(small().double(), any_tickets(small, count=5))


def test_one_shot_takes_the_steepest_descent_from_the_middle():
    superposition, uniform = five_tasks(), torch.full((5,), 0.2, dtype=torch.float64)
    for inputs in drawn_images(8).split(1):
        slow = slow_gradient(superposition, inputs, uniform, Entropy())
        assert superposition.infer(inputs) == int(slow.argmin())
    each = [superposition.infer(one[None]) for one in drawn_images(8)]
    assert superposition.infer_each(drawn_images(8)).tolist() == each
    assert len(set(each)) > 1


def test_binary_search_rules_out_halves():
    superposition = five_tasks()
    for inputs in drawn_images(6).split(1):
        left = list(range(5))
        while len(left) > 1:
            alphas = torch.tensor([1 / len(left) if task in left else 0.0 for task in range(5)], dtype=torch.float64)
            slow = slow_gradient(superposition, inputs, alphas, Entropy())
            left = sorted(left, key=lambda task: (float(slow[task]), task))[: math.ceil(len(left) / 2)]
        assert [superposition.infer(inputs, Binary())] == left


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40))
def test_binary_search_ends_after_log_k_steps_and_ties_go_to_the_first(slopes):
    tasks = Slopes([float(slope) for slope in slopes])
    found = Binary().batch(tasks, torch.zeros(1))
    assert found == slopes.index(min(slopes))
    assert len(tasks.asked) == math.ceil(math.log2(len(slopes)))
    for alphas in tasks.asked:
        there = alphas[alphas > 0]
        torch.testing.assert_close(there, torch.full_like(there, 1 / len(there)))


def test_each_mask_takes_the_lowest_mean_entropy():
    tickets, inputs = any_tickets(small, count=5), drawn_images(4).float()
    logits = [ticket.apply(small())(inputs) for ticket in tickets]
    entropies = torch.stack([-(each.softmax(1) * each.softmax(1).log()).sum(1) for each in logits], 1)
    superposition = Superposition(small(), tickets)
    assert superposition.infer(inputs, EachMask()) == int(entropies.mean(0).argmin())
    assert superposition.infer_each(inputs, EachMask()).tolist() == entropies.argmin(1).tolist()


def better_than_chance(right, total):
    return binom.sf(right - 1, total, 1 / TASKS) < 1e-6


@pytest.mark.parametrize("learned", [learned_tasks, learned_with_statistics])
@pytest.mark.parametrize(
    "method", [OneShot(), OneShot(Superfluous(10)), Binary(), Binary(Superfluous(10)), EachMask()], ids=str
)
def test_the_task_of_single_images_is_inferred_better_than_by_chance(learned, method):
    data, superposition = learned()
    right = 0
    for task, (inputs, _) in enumerate(examples_of(data, TASKS)):
        right += int((superposition.infer_each(inputs[:EXAMPLES], method) == task).sum())
    assert better_than_chance(right, TASKS * EXAMPLES)


@pytest.mark.parametrize("method", [OneShot(), Binary(), EachMask()], ids=str)
def test_the_task_of_a_batch_is_inferred(method):
    data, superposition = learned_tasks()
    found = [superposition.infer(inputs, method) for inputs, _ in examples_of(data, TASKS)]
    assert found == list(range(TASKS))  # by chance once in 4^4 = 256 networks, of which this is one and always the same


def test_a_superposition_of_one_task_knows_it():
    superposition = Superposition(small().double(), any_tickets(small, count=1))
    for method in (OneShot(), Binary(), EachMask()):
        assert superposition.infer(drawn_images(), method) == 0
        assert superposition.infer_each(drawn_images(), method).tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", [OneShot(), Binary(), EachMask()], ids=str)
def test_nothing_is_inferred_from_nothing(method):
    with pytest.raises(SupermaskError, match="at least one example"):
        five_tasks().infer(drawn_images(0), method)
    with pytest.raises(SupermaskError, match="at least one example"):
        five_tasks().infer_each(drawn_images(0), method)
    with pytest.raises(SupermaskError, match="holds no task yet"):
        Superposition(small()).infer(drawn_images(), method)
