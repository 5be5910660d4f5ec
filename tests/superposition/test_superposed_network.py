"""All masks at once: against weights multiplied out by hand, and gradients against finite differences."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import any_tickets, normed, slow_gradient, small
from torch import nn

from supermask import SupermaskError
from supermask.superposition import Entropy, OneShot, Superfluous, Superposition

ALPHAS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def images(count=6, shape=(1, 8, 8)):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def double(build, **options):
    return Superposition(build().double(), any_tickets(build, **options))


class Tied(nn.Module):
    """An embedding that is also the output layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 5)
        self.output = nn.Linear(5, 12, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, words):
        return self.output(torch.tanh(self.embedding(words).mean(1)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.output = nn.Linear(6, 9)

    def forward(self, images):
        return self.output(self.lstm(images[:, 0])[0][:, -1])


def test_superposed_weights_are_the_weighed_sum_of_the_masked_ones():
    tickets = any_tickets(small)
    superposition = Superposition(small().double(), tickets)
    slow, frozen = small().double(), tickets[0].random_weights()
    tickets[0].apply(slow)
    with torch.no_grad():
        for name, parameter in slow.named_parameters():
            if name in frozen:
                masks = sum(alpha * ticket.masks[name] for alpha, ticket in zip(ALPHAS, tickets, strict=True))
                parameter.copy_(masks * frozen[name])
    torch.testing.assert_close(superposition.superposed(images(), ALPHAS), slow(images()))


@pytest.mark.parametrize("build", [small, normed])
@pytest.mark.parametrize("task", [0, 2])
def test_a_corner_is_the_network_of_one_task(build, task):
    tickets = any_tickets(build)
    corner = torch.zeros(3)
    corner[task] = 1.0
    inputs = images().float()
    alone = tickets[task].apply(build()).eval()(inputs)
    superposition = Superposition(build(), tickets)
    assert torch.equal(superposition.superposed(inputs, corner), alone)
    assert torch.equal(superposition.outputs(inputs, task), alone)


def test_statistics_are_mixed_with_the_masks():
    superposition = double(normed)
    mixed = superposition._network.superposed(superposition.tickets, ALPHAS.tolist())
    for name in ("1.running_mean", "1.running_var", "6.running_var"):
        each = [ticket.learned[name].double() for ticket in superposition.tickets]
        torch.testing.assert_close(mixed[name], sum(a * s for a, s in zip(ALPHAS, each, strict=True)))
        assert not torch.equal(each[0], each[1])


@pytest.mark.parametrize("build", [small, normed])
def test_the_gradient_is_that_of_finite_differences(build):
    superposition, objective = double(build), Entropy()
    fast = superposition.gradient(images(), ALPHAS, objective)
    torch.testing.assert_close(fast, slow_gradient(superposition, images(), ALPHAS, objective), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("build", [small, normed])
def test_the_gradient_of_each_example_is_that_of_a_batch_of_one(build):
    superposition = double(build)
    for objective in (Entropy(), Superfluous(10)):
        each = superposition.gradients(images(), ALPHAS, objective)
        slow = torch.stack([superposition.gradient(one[None], ALPHAS, objective) for one in images()])
        torch.testing.assert_close(each, slow)
        torch.testing.assert_close(superposition.gradient(images(), ALPHAS, objective), each.mean(0))


class OldSine(torch.autograd.Function):
    """A custom function as they were written before torch.func."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.sin()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


class NewSine(torch.autograd.Function):
    @staticmethod
    def forward(inputs):
        return inputs.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    backward = OldSine.backward


def distances(inputs):
    return torch.cdist(inputs, torch.eye(inputs.shape[1], dtype=inputs.dtype))


class Ending(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.linear, self.last = nn.Linear(64, 9), last

    def forward(self, images):
        return self.last(self.linear(images.flatten(1)))


@pytest.mark.parametrize("last", [OldSine.apply, NewSine.apply, distances])
def test_a_model_without_forward_derivatives_goes_backward_one_by_one(last):
    superposition = double(lambda: Ending(last))
    each = superposition.gradients(images(), ALPHAS)
    slow = torch.stack([slow_gradient(superposition, one[None], ALPHAS, Entropy()) for one in images()])
    torch.testing.assert_close(each, slow, rtol=1e-5, atol=1e-8)


def test_a_recurrent_network_can_be_superposed():
    superposition = double(Recurrent)
    each = superposition.gradients(images(), ALPHAS)
    slow = torch.stack([slow_gradient(superposition, one[None], ALPHAS, Entropy()) for one in images()])
    torch.testing.assert_close(each, slow, rtol=1e-5, atol=1e-8)


def test_tied_weights_have_the_gradient_of_all_their_places():
    superposition = double(Tied)
    words = torch.randint(12, (5, 4), generator=torch.Generator().manual_seed(0))
    fast = superposition.gradient(words, ALPHAS)
    torch.testing.assert_close(fast, slow_gradient(superposition, words, ALPHAS, Entropy()), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(superposition.gradients(words, ALPHAS).mean(0), fast)


def test_learned_parameters_are_each_tasks_own():
    tickets = any_tickets(small, bias="learned")
    moved = []
    for task, ticket in enumerate(tickets):
        learned = {name: tensor + 0.1 * task for name, tensor in ticket.learned.items()}
        moved.append(replace(ticket, learned=learned))
    superposition = Superposition(small().double(), moved)
    fast = superposition.gradient(images(), ALPHAS)
    torch.testing.assert_close(fast, slow_gradient(superposition, images(), ALPHAS, Entropy()), rtol=1e-5, atol=1e-8)
    for task, ticket in enumerate(moved):
        inputs = images().float()
        alone = ticket.apply(small())(inputs)
        assert torch.equal(Superposition(small(), moved).outputs(inputs, task), alone)


def test_g_holds_the_classes_and_moves_the_superfluous_outputs():
    superposition, objective = double(small), Superfluous(10)
    held = superposition.superposed(images(), ALPHAS)[:, :10]

    def with_classes_held(logits):
        return torch.cat([held, logits[:, 10:]], 1).logsumexp(1)

    fast = superposition.gradient(images(), ALPHAS, objective)
    slow = slow_gradient(superposition, images(), ALPHAS, with_classes_held)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-8)


def test_the_gradient_of_g_is_that_of_the_cross_entropy_in_the_superfluous_outputs():
    """Lemma 1 of appendix I."""
    logits = torch.randn(4, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (g,) = torch.autograd.grad(Superfluous(10)(logits).sum(), logits)
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 3, 9, 1]), reduction="sum")
    (supervised,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(g[:, 10:], supervised[:, 10:])
    assert not g[:, :10].any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=8))
def test_the_entropy_is_that_of_its_definition(logits):
    row = torch.tensor([logits], dtype=torch.float64)
    p = row.exp() / row.exp().sum()
    torch.testing.assert_close(Entropy()(row)[0], -sum(x * x.log() for x in p[0] if x > 0), rtol=1e-9, atol=1e-9)


def test_the_model_is_left_as_it_was():
    superposition = double(normed)
    superposition.model.train()
    superposition.model[1].eval()
    before = {name: tensor.clone() for name, tensor in superposition.model.state_dict().items()}
    superposition.gradient(images(), ALPHAS)
    superposition.gradients(images(), ALPHAS)
    superposition.infer(images())
    after = superposition.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [module.training for module in superposition.model[:2]] == [True, False]
    assert all("forward" not in vars(module) for module in superposition.model)
    assert all(parameter.grad is None for parameter in superposition.model.parameters())


@pytest.mark.parametrize("alphas", [torch.ones(2), torch.ones(3, 1), torch.tensor([1.0, float("nan"), 0.0])])
def test_coefficients_that_do_not_fit_are_refused(alphas):
    with pytest.raises(SupermaskError, match="give one for each of 3 tasks"):
        double(small).gradient(images(), alphas)


def test_objectives_refuse_what_has_no_superfluous_outputs():
    with pytest.raises(SupermaskError, match="none is superfluous"):
        double(small).infer(images(), OneShot(Superfluous(30)))
    with pytest.raises(SupermaskError, match="names no class"):
        Superfluous(0)


def test_a_model_without_logits_is_refused():
    def build():
        return nn.Conv2d(1, 3, 3)

    with pytest.raises(SupermaskError, match=r"logits of shape \(batch, outputs\)"):
        double(build).infer(images())


def test_nan_is_not_taken_for_the_lowest():
    with pytest.raises(SupermaskError, match="NaN"):
        double(small).infer(torch.full((1, 1, 8, 8), float("nan"), dtype=torch.float64))
