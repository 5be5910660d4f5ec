"""What methods of several stages ask of the loop: to begin late, to step in, to wait until they are complete."""

import copy

import pytest
import torch
from torch import nn

from supermask import SupermaskError, data
from supermask.baselines import Dense
from supermask.training import Recipe, train
from supermask.training.dropout import dropping

RECIPE = Recipe(iterations=12, batch_size=100, evaluate_every=4, momentum=0.0)


@pytest.fixture(scope="module")
def synthetic():
    return data.load("synthetic", seed=0)


def lenet():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10))


class Kept(Dense):
    """A dense network that keeps its weights at every step."""

    def __init__(self):
        super().__init__(lenet())
        self.trace = []

    def step(self):
        self.trace.append(copy.deepcopy(self.model.state_dict()))


def test_the_rest_of_a_training_from_its_weights_is_the_training(synthetic):
    whole = Kept()
    train(whole, synthetic, RECIPE, seed=0, progress=False)
    rest = Kept()
    rest.model.load_state_dict(whole.trace[4])
    outcome = train(rest, synthetic, RECIPE, seed=0, start=5, progress=False)  # without momentum nothing else counts
    assert len(rest.trace) == 7
    assert all(tensor.equal(whole.trace[-1][name]) for name, tensor in rest.trace[-1].items())
    assert [record["step"] for record in outcome.history] == [5, 8, 12]
    assert outcome.history[1]["train_loss"] < 10


@pytest.mark.parametrize("start", [-1, 13])
def test_a_start_beyond_the_steps_is_refused(synthetic, start):
    with pytest.raises(SupermaskError, match=f"start={start} is not one"):
        train(Dense(lenet()), synthetic, RECIPE, seed=0, start=start, progress=False)


class Frozen(Dense):
    """A network that takes its gradients away before each step."""

    def before_step(self, optimizer):
        self.optimizer = optimizer
        for parameter in self.parameters():
            parameter.grad.zero_()


def test_a_subject_may_change_the_gradients(synthetic):
    subject = Frozen(lenet())
    before = copy.deepcopy(subject.model.state_dict())
    train(subject, synthetic, RECIPE, seed=0, progress=False)
    assert isinstance(subject.optimizer, torch.optim.SGD)
    plain = Dense(lenet())
    train(plain, synthetic, RECIPE, seed=0, progress=False)
    assert all(tensor.equal(before[name]) for name, tensor in subject.model.state_dict().items())
    assert not plain.model.state_dict()["1.weight"].equal(before["1.weight"])


class Late(Kept):
    """A network that becomes complete at a step, and is worst from there on."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    @property
    def complete(self):
        return len(self.trace) >= self.at

    def step(self):
        super().step()
        if self.complete:
            with torch.no_grad():
                self.model[3].weight.zero_()


def test_no_step_is_chosen_before_the_subject_is_complete(synthetic):
    recipe = Recipe(**{**vars(RECIPE), "learning_rate": 0.5})
    outcome = train(Late(8), synthetic, recipe, seed=0, progress=False)
    accuracies = {record["step"]: record["validation_accuracy"] for record in outcome.history}
    assert outcome.best_step >= 8
    assert accuracies[4] > max(accuracies[8], accuracies[12])


def test_a_subject_that_is_never_complete_is_refused(synthetic):
    with pytest.raises(SupermaskError, match="at none of the evaluations as sparse"):
        train(Late(13), synthetic, RECIPE, seed=0, progress=False)


def test_the_last_state_is_there_beside_the_best(synthetic):
    subject = Kept()
    outcome = train(subject, synthetic, RECIPE, seed=0, progress=False)
    assert all(tensor.equal(subject.trace[-1][name]) for name, tensor in outcome.last["model"].items())


def test_dropout_drops_the_inputs_of_later_linear_layers_in_training_alone():
    model = nn.Sequential(nn.Linear(1000, 1000, bias=False), nn.Linear(1000, 1000, bias=False))
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.eye(1000))
    ones = torch.ones(1, 1000)
    with dropping(model, 0.25):
        torch.manual_seed(0)
        dropped = model(ones)
        assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
        assert 200 <= int((dropped == 0).sum()) <= 300  # 3.6 standard deviations
        assert model[0](ones).equal(ones)
        assert model.eval()(ones).equal(ones)
    assert model.train()(ones).equal(ones)
    with dropping(model, 0.0):
        assert not model[1]._forward_pre_hooks


def test_the_loop_drops(synthetic):
    plain, dropped = Dense(lenet()), Dense(lenet())
    train(plain, synthetic, RECIPE, seed=0, progress=False)
    train(dropped, synthetic, Recipe(**{**vars(RECIPE), "dropout": 0.5}), seed=0, progress=False)
    assert not plain.model[1].weight.equal(dropped.model[1].weight)
    assert not dropped.model[3]._forward_pre_hooks
