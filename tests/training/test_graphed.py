"""Training steps as a CUDA graph: the loop around them, what is refused, and on a GPU the same training as without."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from supermask import EdgePopup, data, models
from supermask.baselines import Dense
from supermask.errors import SupermaskError
from supermask.masking import CubicRamp, Global
from supermask.search import Biprop
from supermask.training import Recipe, graphed, loop, train
from supermask.training.graphed import WARM_UP, GraphedStep, Recording
from supermask.training.processes import ALONE, Processes

RECIPE = Recipe(iterations=12, batch_size=32, evaluate_every=5, learning_rate=0.05, warm_up=4)
CUDA = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def synthetic():
    return data.load("synthetic", seed=0)


def lenet():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10))


def normalised():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))


class Replayed:
    """Stands for a graph on the CPU: it does the recorded work again, on the same tensors, as if it were captured."""

    def __init__(self, monkeypatch):
        self.log, self._monkeypatch = [], monkeypatch

    def aside(self, work):
        self.log.append("step")
        return work()

    def record(self, work):
        self.log.append("record")
        loss = torch.full((), torch.nan)

        def replay():
            self.log.append("replay")
            with self._monkeypatch.context() as patched:
                patched.setattr(torch.cuda, "is_available", lambda: True)
                patched.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
                loss.copy_(work())

        return Recording(replay, loss)


@pytest.fixture
def replayed(monkeypatch):
    """The loop takes its graphs from a stand-in, whose log this is."""
    recorder = Replayed(monkeypatch)
    monkeypatch.setattr(
        loop,
        "graphed",
        lambda step, subject, data, device, processes: GraphedStep(step, subject.replayed, recorder, device),
    )
    return recorder.log


SUBJECTS = {
    "edge-popup": lambda: EdgePopup(lenet(), density=0.3),
    "a global scope": lambda: EdgePopup(lenet(), density=0.3, scope=Global(floor=1)),
    "batch norm": lambda: EdgePopup(normalised(), density=0.3),
    "dense": lambda: Dense(lenet()),
}


@pytest.mark.parametrize("make", SUBJECTS.values(), ids=SUBJECTS)
def test_replays_train_as_single_steps_do(make, synthetic, replayed):
    """Every batch, rate and step reaches the replays, across evaluations and an epoch's end."""
    plain, other = make(), make()
    expected = train(plain, synthetic, RECIPE, seed=0, progress=False)
    assert not replayed
    outcome = train(other, synthetic, replace(RECIPE, graph=True), seed=0, progress=False)
    assert replayed == ["step"] * WARM_UP + ["record"] + ["replay"] * (12 - WARM_UP)
    for record, same in zip(outcome.history, expected.history, strict=True):
        assert record == pytest.approx(same, rel=1e-4)
    for part, same in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(part, same)  # the rate is a float32 number here, and a float64 one there
    if isinstance(plain, EdgePopup):
        assert outcome.last["steps"] == 12
        assert all(torch.equal(mask, other.masks()[name]) for name, mask in plain.masks().items())


def test_a_killed_training_with_a_graph_goes_on(synthetic, replayed, tmp_path):
    class Enough(Exception):
        pass

    def stop(record, subject):
        if record["step"] == 10:
            raise Enough

    whole, search = (EdgePopup(lenet(), density=0.3) for _ in range(2))
    recipe = replace(RECIPE, graph=True)
    train(whole, synthetic, recipe, seed=0, progress=False)
    with pytest.raises(Enough):
        train(
            search, synthetic, recipe, seed=0, progress=False, folder=tmp_path, checkpoint_seconds=0, on_evaluation=stop
        )
    fresh = EdgePopup(lenet(), density=0.3)
    train(fresh, synthetic, recipe, seed=0, progress=False, folder=tmp_path, resume=True)
    for part, same in zip(whole.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(part, same)


def test_a_plan_without_a_graph_does_not_name_it(synthetic):
    assert "graph" not in RECIPE.recorded()
    assert replace(RECIPE, graph=True).recorded()["graph"]


@pytest.mark.parametrize("other", [{"optimizer": "adam"}, {"optimizer": "sgdw"}, {"fused": True}, {"compile": True}])
def test_recipes_that_no_graph_takes_are_refused(other):
    with pytest.raises(SupermaskError, match="graph=True needs optimizer sgd and neither fused nor compile"):
        Recipe(graph=True, **other)


def test_a_device_without_graphs_is_refused(synthetic):
    with pytest.raises(SupermaskError, match="CUDA graphs and the device is cpu"):
        train(Dense(lenet()), synthetic, replace(RECIPE, graph=True), seed=0)


@pytest.mark.parametrize(
    ("make", "change", "says"),
    [
        (lambda: Dense(lenet()), {"processes": Processes(0, 2)}, "one process and there are 2"),
        (lambda: Dense(lenet()), {"data": DataLoader(TensorDataset(torch.ones(2, 3)))}, "one shape, which data loader"),
        (lambda: Biprop(lenet(), density=0.3), {}, "biprop does in its steps what a CUDA graph cannot hold"),
        (
            lambda: EdgePopup(lenet(), density=0.3, schedule=CubicRamp(9)),
            {},
            "The density of edge_popup changes from step to step",
        ),
    ],
    ids=["processes", "loaders", "search", "schedule"],
)
def test_what_a_graph_cannot_hold_is_refused(make, change, says, synthetic):
    given = {"data": synthetic, "device": CUDA, "processes": ALONE, **change}
    with pytest.raises(SupermaskError, match=says):
        graphed.graphed(lambda batch: torch.zeros(()), make(), **given)


@pytest.mark.gpu
@pytest.mark.parametrize("scope", ["layer", Global(floor=3), None])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_graph_trains_as_single_steps_do_on_a_gpu(scope, bf16, synthetic):
    """The losses are the same up to the order of sums; masks follow the scores of the last step."""

    def subject():
        model = models.build("conv2", input_shape=synthetic.input_shape)
        return Dense(model) if scope is None else EdgePopup(model, density=0.4, scope=scope)

    recipe = replace(RECIPE, learning_rate=1e-3, bf16=bf16)
    plain, other = subject(), subject()
    expected = train(plain, synthetic, recipe, seed=0, device="cuda", progress=False)
    outcome = train(other, synthetic, replace(recipe, graph=True), seed=0, device="cuda", progress=False)
    for record, same in zip(outcome.history, expected.history, strict=True):
        assert record["train_loss"] == pytest.approx(same["train_loss"], rel=1e-2)
        assert record["step"] == same["step"]
    if scope is not None:
        kept = {name: int(mask.sum()) for name, mask in plain.masks().items()}
        assert sum(int(mask.sum()) for mask in other.masks().values()) == sum(kept.values())
        assert outcome.last["steps"] == 12


@pytest.mark.gpu
def test_a_loss_that_waits_for_the_gpu_is_refused_in_a_sentence(synthetic):
    def waiting(outputs, targets):
        loss = cross_entropy(outputs, targets)
        return loss * (1.0 if loss.item() > 0 else 2.0)

    with pytest.raises(SupermaskError, match=r"A CUDA graph cannot hold this training step \(.*without graph=True"):
        train(
            Dense(lenet()),
            synthetic,
            replace(RECIPE, graph=True),
            seed=0,
            device="cuda",
            loss=waiting,
            progress=False,
        )
