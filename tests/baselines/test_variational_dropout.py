"""Variational dropout: the divergence against integration, the noise against sampled weights, and what is kept."""

import math
from dataclasses import replace

import pytest
import torch
from plain_training import SGD, counts, watched, work
from torch import nn
from torch.nn.functional import cross_entropy

from supermask import SupermaskError
from supermask.baselines.during_training.variational_dropout import (
    VariationalDropout,
    divergence,
    log_alpha_of,
)
from supermask.training.batches import Batches


def integrated(log_alpha):
    """Return E log|1 + sqrt(alpha) e| - log(alpha) / 2 over a normal e: the divergence up to a constant.

    KL(q || log-uniform) = -entropy(q) + E log|w| + constant, with w = theta (1 + sqrt(alpha) e).
    """
    count = 400_001
    e = torch.linspace(-12.0, 12.0, count, dtype=torch.float64)
    density = torch.exp(-(e**2) / 2) / math.sqrt(2 * math.pi)
    values = (1 + math.exp(log_alpha / 2) * e).abs().clamp(min=1e-12).log()
    return float((density * values).sum() * 24.0 / (count - 1)) - log_alpha / 2


def test_the_divergence_is_that_of_the_log_uniform_prior():
    """Molchanov et al. say that it is tight; the largest difference that we find is 0.013 nats, near log alpha = -3."""
    ends = integrated(16.0)  # where the approximation is 0
    for log_alpha in torch.linspace(-8.0, 8.0, 17).tolist():
        expected = integrated(log_alpha) - ends
        assert float(divergence(torch.tensor(log_alpha))) == pytest.approx(expected, abs=0.02)


def test_it_falls_with_alpha_to_nothing():
    values = divergence(torch.linspace(-8, 8, 100, dtype=torch.float64))
    assert bool((values.diff() < 0).all())
    assert 0.0 <= float(divergence(torch.tensor(50.0))) < 1e-5


def test_log_alpha_is_the_ratio_of_noise_to_weight():
    found = log_alpha_of(torch.tensor([0.5, 0.0, 2.0]), torch.tensor([-3.0, -3.0, -60.0]))
    torch.testing.assert_close(found, torch.tensor([-3.0 - 2 * math.log(0.5), 8.0, -8.0]))


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_outputs_have_the_mean_and_the_variance_of_random_weights(kind):
    """4,000 draws of outputs against 4,000 networks with random weights: no difference of 4 sigma, in 12 or fewer."""
    torch.manual_seed(0)
    layer, shape = (nn.Linear(6, 3), (1, 6)) if kind == "linear" else (nn.Conv2d(2, 3, 2, stride=2), (1, 2, 4, 4))
    build = lambda: nn.Sequential(layer)  # noqa: E731
    task = work(density=0.5)
    network = VariationalDropout(first=-2.0).network(replace(task, build=build))
    image, draws = torch.randn(shape), 4000
    network.model.train()
    with torch.no_grad():
        found = torch.cat([network.model(image) for _ in range(draws)]).flatten(1)
        weight, sigma = layer.weight.clone(), math.exp(-1.0)
        slow = []
        for _ in range(draws):
            layer.weight.copy_(weight + sigma * torch.randn_like(weight))
            slow.append(
                layer._conv_forward(image, layer.weight, layer.bias)
                if kind == "conv"
                else image @ layer.weight.T + layer.bias
            )
        slow = torch.cat(slow).flatten(1)
    spread = slow.std(0)
    assert bool(((found.mean(0) - slow.mean(0)).abs() < 4 * spread * math.sqrt(2 / draws)).all())
    assert bool(((found.std(0) / spread - 1).abs() < 4 / math.sqrt(draws)).all())
    network.model.eval()
    with torch.no_grad():
        layer.weight.copy_(weight)
        assert torch.equal(network.model(image), network.model(image))  # no noise in evaluation


def test_gradients_are_those_of_the_loss_with_the_divergence():
    task = work()
    method = VariationalDropout(divergence=2.0, ramp=0.0, first=-3.0)
    network = method.network(task)
    batch = Batches(task.data, task.recipe, seed=0, device=task.device).batch(0)
    network.model.train()
    cross_entropy(network.model(batch.inputs), batch.targets).backward()
    pairs = {name: (slot.parameter, network.log_variance[name]) for name, slot in network.prunable.items()}
    before = {name: [each.grad.clone() for each in pair] for name, pair in pairs.items()}
    network._variances.step = network._variances.zero_grad = lambda: None
    network.before_step(None)

    def slow(weight, variance):
        alpha = math.exp(variance) / weight**2
        sigmoid = 1 / (1 + math.exp(-(1.8732 + 1.48695 * math.log(alpha))))
        return 2.0 / len(task.data.train) * (0.63576 * (1 - sigmoid) + 0.5 * math.log(1 + 1 / alpha))

    for name, (weight, variance) in pairs.items():
        for place in (0, 7, 50):
            w, v, h = weight.flatten()[place].item(), variance.flatten()[place].item(), 1e-4
            by_weight = (slow(w + h * abs(w), v) - slow(w - h * abs(w), v)) / (2 * h * abs(w))
            by_variance = (slow(w, v + h) - slow(w, v - h)) / (2 * h)
            added = [(each.grad - old).flatten()[place] for each, old in zip(pairs[name], before[name], strict=True)]
            assert float(added[0]) == pytest.approx(by_weight, rel=1e-2, abs=1e-6)
            assert float(added[1]) == pytest.approx(by_variance, rel=1e-2, abs=1e-6)


def test_the_lowest_log_alphas_are_kept_exactly_and_noise_ends():
    task = work(density=0.2)
    network = VariationalDropout(end=0.5).network(task)
    chosen = {}
    seen = watched(network)
    keep = network.set_masks

    def keeping(masks):
        if not chosen:
            chosen.update(network.log_alpha())
        keep(masks)

    network.set_masks = keeping
    outcome = task.train(network)
    for step, record in enumerate(seen, 1):
        assert record["complete"] == (step >= 28)
        assert sum(counts(record["masks"]).values()) == (1776 if step < 28 else round(0.2 * 1776))
    log_alpha = torch.cat([each.flatten() for each in chosen.values()])
    mask = torch.cat([each.flatten() for each in seen[28]["masks"].values()])
    assert log_alpha[mask].max() <= log_alpha[~mask].min()
    assert 0.0 <= outcome.last["found"] <= 1.0
    network.model.train()
    assert torch.equal(network.model(torch.ones(1, 1, 8, 8)), network.model(torch.ones(1, 1, 8, 8)))


def test_more_divergence_leaves_less():
    def found(weight):
        method = VariationalDropout(divergence=weight, ramp=0.1, rate=0.2)
        return method.run(work(replace(SGD, epochs=10), density=0.3)).details.found

    assert found(20.0) < found(0.01)


def test_a_run_that_goes_on_ends_as_the_run_that_was_not_stopped():
    task = work(replace(SGD, epochs=2), density=0.3)
    kept = task.train(VariationalDropout().network(task), keep=[24])
    last = task.train(VariationalDropout().network(task), start=kept.kept[24]).last
    for part in ("model", "log_variance"):
        assert all(torch.equal(last[part][name], each) for name, each in kept.last[part].items())


def test_weights_of_other_layers_are_refused():
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Unflatten(1, (2, 4)), nn.MultiheadAttention(4, 1))  # noqa: E731
    with pytest.raises(SupermaskError, match="adds noise to what linear and convolutional layers return"):
        VariationalDropout().network(replace(work(), build=build))


@pytest.mark.parametrize("options", [{"divergence": -1.0}, {"rate": 1.0}, {"first": 1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SupermaskError, match="do not fit"):
        VariationalDropout(**options)
