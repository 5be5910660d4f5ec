"""Targets built in random networks, as tasks of experiments."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments import pensia_fc2, pensia_lenet5, trained_targets
from experiments.framework.building import BUILT, Building, convolved, plot_errors, run
from experiments.framework.pensia import ARCHITECTURES, PensiaNetwork, read_network
from supermask import Ticket, data
from supermask.errors import DataError
from supermask.models.sequence import from_description


@dataclass(frozen=True)
class Small:
    """A small network on the digits."""

    def config(self):
        return {"file": "small"}

    def network(self, seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))

    def read(self, folder, data_folder, seed):
        return self.network(seed), data.load("digits")

    def prepare(self, data_set, images):
        return data_set.normalize(images).double()


def test_a_building_is_measured_on_the_test_set(tmp_path):
    task = Building(Small(), seed=3, construction="relu_diamond", epsilon=0.05, radius=20.0)
    result = task.run(tmp_path / "run", device="cpu", data_folder=None)
    data_set = data.load("digits")
    test = data_set.test()
    images = data_set.normalize(test.images).double()
    ticket = Ticket.load(tmp_path / "run" / "network.ticket")
    network = ticket.apply(from_description(ticket.provenance["model"]["modules"]).double())
    with torch.no_grad():
        wanted, found = Small().network(3).double()(images), network(images)
    assert result.tested == len(test)
    assert result.target_correct == int((wanted.argmax(1) == test.labels).sum())
    assert result.correct == int((found.argmax(1) == test.labels).sum())
    assert result.disagreements == int((wanted.argmax(1) != found.argmax(1)).sum())
    assert result.largest_difference == pytest.approx(float((wanted - found).norm(dim=1).max()), rel=1e-9)
    assert result.largest_difference <= result.upper <= 0.05
    assert result.largest_image <= 20.0
    assert sum(result.histogram) <= 64 * 6 + 6 + 6 * 10 + 10
    assert len(BUILT.row([result, result])) == len(BUILT.header)
    plot_errors({"small": [result]}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").exists()


def test_outputs_do_not_depend_on_the_parts():
    network, images = Small().network(0).double(), torch.randn(230, 64, dtype=torch.float64)
    torch.testing.assert_close(run(network, images), network(images).detach(), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("experiment", [pensia_fc2.EXPERIMENT, pensia_lenet5.EXPERIMENT, trained_targets.EXPERIMENT])
def test_every_run_has_settings_of_its_own(experiment):
    configs = [task.config() for group in experiment.groups for task in group.tasks]
    assert all(config not in configs[:i] for i, config in enumerate(configs))
    assert experiment.table is BUILT


def test_a_missing_file_of_the_authors_is_said(tmp_path):
    with pytest.raises(DataError, match=r"put the authors' fc2\.pt into the folder pensia2020"):
        read_network("fc2.pt", tmp_path)


@pytest.mark.parametrize("file", ARCHITECTURES)
def test_the_authors_state_is_put_where_its_names_say(tmp_path, file):
    state = {}
    layers = [module for module in ARCHITECTURES[file]() if hasattr(module, "weight")]
    counts = {"conv": 0, "fc": 0}
    for module in layers:
        kind = "conv" if isinstance(module, nn.Conv2d) else "fc"
        counts[kind] += 1
        state[f"{kind}{counts[kind]}.weight"] = torch.randn_like(module.weight)
    (tmp_path / "pensia2020").mkdir()
    torch.save(dict(reversed(state.items())), tmp_path / "pensia2020" / file)
    found = read_network(file, tmp_path).parameters()
    assert all(torch.equal(*pair) for pair in zip(found, state.values(), strict=True))


def test_pixels_are_normalised_where_the_network_wants_it():
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    raw, normalized = (PensiaNetwork("fc2.pt", normalized=which).prepare(None, images) for which in (False, True))
    assert raw.flatten().tolist() == [0.0, 1.0]
    assert normalized.flatten().tolist() == pytest.approx([-0.1307 / 0.3081, 0.8693 / 0.3081])


def test_the_target_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.setattr(trained_targets.TrainedTarget, "job", small_job)
    source = trained_targets.TrainedTarget("lenet_300_100", 0.1)
    one, data_set = source.read(tmp_path, None, seed=1)
    before = Path(tmp_path / "target" / "result.json").stat().st_mtime_ns
    other, _ = source.read(tmp_path, None, seed=1)
    assert Path(tmp_path / "target" / "result.json").stat().st_mtime_ns == before
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))
    test = data_set.test()
    with torch.no_grad():
        right = (one.eval()(data_set.normalize(test.images)).argmax(1) == test.labels).double().mean()
    assert right > 0.8


def small_job(source, seed):
    recipe = trained_targets.Recipe(epochs=5, batch_size=32)
    return trained_targets.Job(
        method="dense", model="lenet_300_100", width=0.1, data="digits", seed=seed, recipe=recipe
    )


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_wide_convolutions_are_run_by_products_first(kernel, bias):
    wide = nn.Conv2d(7, 3, kernel, padding=(1, 0), bias=bias)
    network = nn.Sequential(nn.Conv2d(2, 7, 1), nn.ReLU(), wide, nn.Flatten()).double()
    images = torch.randn(5, 2, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(convolved(wide, network[:2](images)), network[:3](images), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(run(network, images), network(images), rtol=1e-12, atol=1e-14)
    assert "forward" not in vars(wide)
