"""Early-Bird tickets: when they are drawn, by what, and that what is pruned stays zero."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from works import work_on

from supermask import SupermaskError, Ticket, models
from supermask.baselines.channel_pruning.early_bird import EarlyBird, EarlyBirdNetwork
from supermask.baselines.channel_pruning.mask_convergence import MaskConvergence, distance
from supermask.training import Recipe

IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _small():
    """Two convolutions that feed batch norms, the second with a bias, and a sum that feeds a third."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6, 10)),
    )


class _PreActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.norm, self.fc = (
            nn.Conv2d(1, 4, 3),
            nn.Conv2d(4, 4, 1),
            nn.BatchNorm2d(4),
            nn.Linear(4, 10),
        )

    def forward(self, x):
        y = self.stem(x)
        return self.fc(self.norm(y + self.conv(y)).relu().mean((2, 3)))


def _network(build=_small, density=0.5, epsilon=0.1, penalty=1e-4, epoch=5, latest=10**6):
    work = work_on(build, Recipe())
    more = {"density": density, "epsilon": epsilon, "penalty": penalty, "epoch": epoch, "latest": latest}
    return EarlyBirdNetwork(work.build(), work.whole, IMAGES, **more)


def _norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


masks = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=14)


@given(masks, st.sampled_from([0.0, 1 / 6, 0.2, 2 / 6, 1.1]))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_converged_as_a_slow_queue_says(rows, epsilon):
    convergence, queue, last = MaskConvergence(epsilon), [], None
    for row in rows:
        convergence.add(torch.tensor(row))
        if last is not None:
            queue.append(sum(a is not b for a, b in zip(last, row, strict=True)) / 6)
            queue = queue[-5:]
        last = row
        assert convergence.converged == (len(queue) == 5 and all(one < epsilon for one in queue))


def test_a_slow_drift_converges_and_one_jump_is_remembered_for_five_epochs():
    convergence, drift = MaskConvergence(0.1), torch.arange(100)
    for epoch in range(6):
        assert not convergence.converged
        convergence.add(drift < 5 * epoch)
    assert convergence.converged  # though the last mask is a quarter away from the first
    convergence.add(drift >= 25)
    for _ in range(5):
        assert not convergence.converged
        convergence.add(drift >= 25)
    assert convergence.converged
    assert convergence.distances == [0.05] * 5 + [1.0] + [0.0] * 5
    assert distance(drift < 30, drift < 40) == 0.1
    convergence.epsilon = 0.0
    assert not convergence.converged  # smaller, not as small


@pytest.mark.parametrize("density", [0.0, 0.15, 0.3, 0.5, 0.77, 1.0])
def test_the_largest_scales_of_the_whole_network_and_one_in_each(density):
    network = _network(density=density)
    first, second = _norms(network.model)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([-9.0, 8, 7, -6, 5, 4, 3, 2]))
        second.weight.copy_(torch.tensor([0.1, -0.9, 0.2, 0.3, -0.3, 0.0]))
    ranks = sorted(range(14), key=lambda place: (-torch.cat([first.weight, second.weight]).abs()[place].item(), place))
    kept = round(density * 14)
    if kept == 0:
        assert not any(mask.any() for mask in network.choose().values())
        return
    chosen = set(ranks[:kept]) if kept > 8 else {*ranks[: kept - 1], 9}  # the second's largest is number 9
    found = torch.cat(list(network.choose().values()))
    assert set(found.nonzero().flatten().tolist()) == chosen


def test_the_gradient_of_the_penalty():
    network = _network(penalty=0.25)
    plain = {name: torch.randn(parameter.shape) for name, parameter in network.model.named_parameters()}
    for name, parameter in network.model.named_parameters():
        parameter.grad = plain[name].clone()
    with torch.no_grad():
        _norms(network.model)[0].weight[:3] = torch.tensor([-0.5, 0.0, 2.0])
    network.before_step(None)
    scales = {"1.weight", "4.weight"}
    for name, parameter in network.model.named_parameters():
        wanted = parameter.detach().clone().requires_grad_(True)
        (0.25 * wanted.abs().sum()).backward()
        expected = plain[name] + (wanted.grad if name in scales else 0)
        assert torch.equal(parameter.grad, expected), name


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_pruned_stays_zero_and_the_rest_trains(optimizer):
    network = _network(epoch=1, latest=3)
    recipe = Recipe(optimizer=optimizer, learning_rate=0.01, weight_decay=0.1)
    trainer = recipe.make_optimizer(network.parameters())
    for step in range(1, 9):
        trainer.zero_grad()
        network.model(torch.randn(8, 1, 8, 8)).square().sum().backward()
        network.before_step(trainer)
        trainer.step()
        network.step()
        assert network.complete == (step >= 3)
        if step >= 3:
            _assert_held(network)
    assert network.drawn == 3


def _assert_held(network):
    channels = list(network.channels().values())
    assert sum(int(mask.sum()) for mask in channels) == 7
    for (layer, norm), mask in zip([("0", "1"), ("3", "4")], channels, strict=True):
        conv, norm = network.model.get_submodule(layer), network.model.get_submodule(norm)
        for tensor in (conv.weight, norm.weight, norm.bias, *([conv.bias] if conv.bias is not None else [])):
            assert not tensor[~mask].any()
            assert not tensor[~mask].signbit().any()
            assert tensor[mask].flatten(1).any(1).all() if tensor.ndim > 1 else tensor[mask].all()
        assert torch.equal(network.masks()[f"{layer}.weight"].flatten(1).all(1), mask)
        assert torch.equal(network.masks()[f"{layer}.weight"].flatten(1).any(1), mask)
    assert network.masks()["7.weight"].all()


def test_nothing_is_pruned_before_the_draw():
    network = _network(epoch=5, latest=100)
    with torch.no_grad():
        _norms(network.model)[0].weight[0] = 0.001
    for _ in range(29):
        network.step()
        assert all(mask.all() for mask in (*network.masks().values(), *network.channels().values()))
    assert not network.complete
    assert len(network.convergence.distances) == 4
    network.step()  # the sixth epoch: the fifth distance
    assert network.complete
    assert network.drawn == 30
    assert not network.channels()["1"][0]


def test_the_draw_is_for_good():
    network = _network(epoch=1, latest=1)
    network.step()
    before = network.channels()
    with torch.no_grad():
        for norm in _norms(network.model):
            norm.weight.copy_(torch.randn_like(norm.weight))
    for _ in range(9):
        network.step()
    assert all(torch.equal(mask, before[name]) for name, mask in network.channels().items())
    assert network.drawn == 1


def test_a_batch_norm_of_a_sum_loses_its_channels_and_no_filter():
    network = _network(_PreActivation, epoch=1, latest=1)
    network.step()
    assert int(network.channels()["norm"].sum()) == 2
    assert int(network.model.norm.weight.count_nonzero()) == 2
    assert all(mask.all() for mask in network.masks().values())


class _Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 10)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)[:, [1, 2, 0]]).mean((2, 3)))


def test_filters_that_arrive_in_another_order():
    network = _network(_Turned, density=0.67, epoch=1, latest=1)
    with torch.no_grad():
        network.model.conv.bias.fill_(1.0)
        network.model.norm.weight.copy_(torch.tensor([0.1, 0.9, 0.8]))
    network.step()
    assert network.model.norm.weight.tolist() == [0.0, pytest.approx(0.9), pytest.approx(0.8)]
    assert network.model.conv.bias.tolist() == [1.0, 0.0, 1.0]
    assert network.model.conv.weight.flatten(1).any(1).tolist() == [True, False, True]


def test_the_ticket_is_the_network_of_the_channels_before_any_training(tmp_path):
    found = EarlyBird().run(work_on(_small, Recipe(epochs=2, batch_size=100)))
    found.subject.ticket().save(tmp_path / "ticket")
    ticket = Ticket.load(tmp_path / "ticket")
    network = ticket.apply(_small())
    for (conv, norm), mask in zip([(0, 1), (3, 4)], found.subject.channels().values(), strict=True):
        assert torch.equal(network[norm].weight, mask.float())
        assert torch.equal(network[conv].weight.flatten(1).any(1), mask)
    assert ticket.kept == int(network[0].weight.count_nonzero() + network[3].weight.count_nonzero()) + 60


def test_a_run_says_when_it_drew():
    recipe = Recipe(epochs=8, batch_size=100, learning_rate=0.01)
    early = EarlyBird(epsilon=1.1, latest=1.0).run(work_on(_small, recipe, density=0.3))
    assert early.details.channels == (round(0.3 * 14), 14)
    assert (early.details.settled, early.details.drawn_step, early.details.drawn_epoch) == (True, 54, 6)
    assert len(early.details.distances) == 5
    assert early.outcome.best_step >= 54
    late = EarlyBird(epsilon=0.0, latest=0.3).run(work_on(_small, recipe, density=0.3))
    assert (late.details.settled, late.details.drawn_step) == (False, math.ceil(0.3 * 72))
    assert late.details.drawn_epoch == pytest.approx(22 / 9)
    assert len(late.details.distances) == 1
    assert late.outcome.best_step >= 22


@pytest.fixture(scope="module")
def whole():
    """What the method ends with that the next test kills."""
    return EarlyBird(epsilon=0.0).run(work_on(_small, Recipe(epochs=6, batch_size=100)))


@pytest.mark.parametrize("killed", [7, 27, 28, 40])
def test_killed_and_resumed_it_ends_the_same(tmp_path, monkeypatch, whole, killed):
    recipe = Recipe(epochs=6, batch_size=100)
    method = EarlyBird(epsilon=0.0)
    real = EarlyBirdNetwork.step

    def step(self):
        real(self)
        if self.steps == killed:
            raise KeyboardInterrupt

    monkeypatch.setattr(EarlyBirdNetwork, "step", step)
    with pytest.raises(KeyboardInterrupt):
        method.run(work_on(_small, recipe, folder=tmp_path))
    monkeypatch.undo()
    again = method.run(work_on(_small, recipe, folder=tmp_path, resume=True))
    assert again.details == whole.details
    assert whole.details.drawn_step == 27
    assert again.outcome.history == whole.outcome.history
    before, after = whole.outcome.last, again.outcome.last
    for part in ("model", "masks", "channels"):
        assert all(torch.equal(tensor, after[part][name]) for name, tensor in before[part].items())
    assert before["settling"]["distances"] == after["settling"]["distances"]


def test_a_network_without_batch_norm_is_refused():
    with pytest.raises(SupermaskError, match=r"^The network has no batch norm with scales, .* another method\.$"):
        EarlyBird().run(work_on(lambda: models.build("lenet_300_100", input_shape=(1, 8, 8)), Recipe()))


def test_too_few_channels_for_every_batch_norm_are_refused_before_any_training():
    with pytest.raises(SupermaskError, match="budget of 1 weights cannot keep 1 in each of 2 layers"):
        _network(density=0.07)


@pytest.mark.parametrize("options", [{"epsilon": -0.1}, {"penalty": -1.0}, {"latest": 0.0}, {"latest": 1.1}])
def test_bad_options_are_refused(options):
    with pytest.raises(SupermaskError, match="do not fit"):
        EarlyBird(**options)
