import itertools
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from experiments.measuring import step_memory, step_times, stopwatch, torchao_layers
from experiments.measuring.published_selection import PUBLISHED, by_kthvalue, by_sort, by_topk
from experiments.measuring.step_memory import peak_bytes
from experiments.measuring.step_times import StepCost
from experiments.measuring.training_step import TORCHAO, WAYS, StepSetting, TrainingStep
from experiments.step_cost import EXPERIMENT, ON_GPU, floor_ratio
from supermask import EdgePopup
from supermask.random.distributions import KaimingUniform

LENET = StepSetting("lenet_300_100", (1, 4, 4), batch=8)
CONV = StepSetting("conv2", (3, 8, 8), batch=4)
RESNET = StepSetting("resnet20", (3, 8, 8), batch=4)  # batch norm, and layers without a bias
CPU = torch.device("cpu")


@pytest.fixture
def _quick(monkeypatch):
    """One core, a small copy, and no process for the memory."""
    monkeypatch.setattr(stopwatch.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(stopwatch.bandwidth, "__defaults__", (1 << 20, 3))
    monkeypatch.setattr(step_times, "peak_bytes", fake_peak)


def cells(shown, label):
    return [cell.strip() for cell in next(r for r in shown.splitlines() if r.startswith(f"| {label}")).split("|")[2:-1]]


def gradients_and_masks(subject, setting, layout):
    """The gradients of the scores, and which entries the layers read, by the name of the score without its wrapping."""
    model = subject.model.to(memory_format=layout)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(setting.batch, *setting.input_shape, generator=generator)
    cross_entropy(model(images), torch.randint(setting.classes, (setting.batch,), generator=generator)).backward()
    scores = {name: p for name, p in model.named_parameters() if p.requires_grad}
    modules = {name: name.removesuffix(".parametrizations.weight.original") for name in scores}
    masks = {name: model.get_submodule(module).weight != 0 for name, module in modules.items()}
    return {name: score.grad for name, score in scores.items()}, masks


@pytest.mark.parametrize("layout", [torch.preserve_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("setting", [LENET, CONV, RESNET], ids=lambda setting: setting.model)
@pytest.mark.parametrize("way", PUBLISHED)
def test_all_ways_have_the_same_masks_and_gradients(way, setting, layout):
    gradients, masks = gradients_and_masks(setting.subject("ours"), setting, layout)
    theirs, their_masks = gradients_and_masks(setting.subject(way), setting, layout)
    assert gradients.keys() == theirs.keys() == masks.keys() == their_masks.keys()
    for name, mask in masks.items():
        assert torch.equal(mask, their_masks[name])
        assert mask.sum() == mask.numel() // 2
        torch.testing.assert_close(theirs[name], gradients[name], rtol=1e-5, atol=1e-7)
        assert gradients[name].abs().sum() > 0


@pytest.mark.filterwarnings("ignore:An optimizer has moved")  # the last search here makes no step on purpose
def test_all_searches_take_the_same_steps():
    """The masks follow the updates: with those of the start the losses part after the first step."""
    losses = {way: [TrainingStep(LENET, way, CPU)] for way in WAYS}
    losses = {way: [float(step.train()) for _ in range(20)] for way, (step,) in losses.items()}
    for way in PUBLISHED:
        np.testing.assert_allclose(losses[way], losses["ours"], rtol=1e-4)
    assert losses["ours"][-1] < losses["ours"][0]
    assert losses["dense"][-1] < losses["dense"][0] != losses["ours"][0]
    still = TrainingStep(LENET, "ours", CPU)
    still._subject.step = lambda: None
    assert [float(still.train()) for _ in range(20)][-1] != pytest.approx(losses["ours"][-1], rel=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_an_evaluation_trains_nothing(way):
    step = TrainingStep(LENET, way, CPU)
    before = [p.clone() for p in step.model.parameters()]
    assert not step.evaluate().requires_grad
    assert float(step.evaluate()) == pytest.approx(float(step.train()), rel=1e-5)
    assert not all(torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True))


class MaskedLinear(torch.nn.Linear):
    """Stands for torchao's layer, with its arguments: a score for each weight, ranked with its sign by kthvalue."""

    def __init__(self, sparsity, blocksize, fixed_mask, fixed_weight, *sizes, bias):
        super().__init__(*sizes, bias=bias)
        assert (blocksize, fixed_mask, fixed_weight) == (1, False, True)
        self.sparsity, self.scores = sparsity, torch.nn.Parameter(torch.empty_like(self.weight))
        self.weight.requires_grad = False

    def forward(self, x):
        flat = self.scores.detach().flatten()
        mask = self.scores.detach() >= flat.kthvalue(1 + round(self.sparsity * (len(flat) - 1))).values
        through = mask + self.scores - self.scores.detach()
        return torch.nn.functional.linear(x, self.weight * through, self.bias)


def test_torchao_is_timed_where_it_is_installed_and_has_all_layers(monkeypatch):
    monkeypatch.setattr(torchao_layers, "installed", lambda: False)
    assert LENET.ways == WAYS
    monkeypatch.setattr(torchao_layers, "installed", lambda: True)
    assert LENET.ways == (*WAYS, TORCHAO)
    assert CONV.ways == RESNET.ways == WAYS


def test_torchao_trains_the_same_weights_from_the_same_scores(monkeypatch):
    part = ModuleType("torchao.sparsity.supermask")
    part.SupermaskLinear = MaskedLinear
    for name in ("torchao", "torchao.sparsity"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, part.__name__, part)
    signed = EdgePopup(LENET.build(), density=0.5, score="signed", scores=KaimingUniform())
    theirs = torchao_layers.TorchaoEdgePopup(LENET.build(), signed)
    images = torch.randn(3, *LENET.input_shape)
    for model in (signed.model, theirs.model):
        model(images).square().sum().backward()
    torch.testing.assert_close(theirs.model(images), signed.model(images))
    for own, other in zip(signed.scores().values(), theirs.parameters(), strict=True):
        torch.testing.assert_close(other.grad, own.grad)


@pytest.mark.skipif(not torchao_layers.installed(), reason="torchao is not installed")
@pytest.mark.filterwarnings("default")
def test_the_layers_of_torchao_train():
    step = TrainingStep(LENET, TORCHAO, CPU)
    losses = [float(step.train()) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_at_ties_only_the_threshold_keeps_too_many():
    equal = torch.ones(10)
    assert [int(mask_of(equal, 4).sum()) for mask_of in (by_sort, by_topk, by_kthvalue)] == [6, 6, 10]


def fake_peak(setting, way, device):
    return {"dense": 100, "ours": 150}.get(way, 200)


@pytest.mark.parametrize(
    "experiment", [EXPERIMENT, pytest.param(ON_GPU, marks=pytest.mark.slow)], ids=lambda experiment: experiment.name
)
@pytest.mark.usefixtures("_quick")
def test_a_tiny_version_has_its_rows_and_its_plot(experiment, report):
    experiment = replace(experiment, groups=experiment.groups[-2:])
    tasks = [replace(g.tasks[0], setting=replace(LENET, bf16=True), rounds=11, every=2) for g in experiment.groups]
    tasks = [replace(task, setting=replace(task.setting, batch=n + 1)) for n, task in enumerate(tasks)]
    shown = report(experiment, tasks)
    assert max(len(line) for line in shown.splitlines() if line.startswith("|")) <= 140
    for group in experiment.groups:
        found = cells(shown, group.label)
        assert found[-4:] == ["1.50", "11, 6", "1", "-"]
        assert float(found[7]) >= 1  # two digits of a floor that a busy machine's step makes small


@pytest.mark.usefixtures("_quick")
def test_a_system_that_does_not_tell_its_memory_has_a_dash(report, monkeypatch):
    monkeypatch.setattr(step_times, "peak_bytes", lambda *_: None)
    one = replace(EXPERIMENT, groups=EXPERIMENT.groups[:1])
    assert cells(report(one, [StepCost(LENET, 6)]), "lenet")[-4:] == ["-", "6, 6", "1", "-"]


def test_ratios_are_of_steps_of_the_same_round(monkeypatch):
    """A machine that grows slower by the round; the published ways miss every second one."""
    monkeypatch.setattr(step_times, "milliseconds", lambda work, device: work())
    calls = {way: itertools.count(1 - step_times.WARM_UP) for way in WAYS}
    work = {way: lambda way=way: 10.0 * next(calls[way]) for way in ("dense", "ours")}
    work |= {way: lambda way=way: 30.0 * (2 * next(calls[way]) - 1) for way in PUBLISHED}
    cost = StepCost(LENET, rounds=12, every=2)
    times = cost._in_turn(work, CPU)
    assert times["dense"] == [10.0 * n for n in range(1, 13)]
    summary = cost._summary(times)
    assert summary.median_ms["dense"] == 65.0
    assert summary.ratio["ours"].value == 1.0
    for way in PUBLISHED:
        assert len(times[way]) == 6
        assert (summary.ratio[way].low, summary.ratio[way].high) == (3.0, 3.0)


@pytest.mark.usefixtures("_quick")
def test_the_floor_is_the_time_of_the_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(step_times, "bandwidth", lambda device: 1e9)
    result = StepCost(LENET, rounds=6).run(tmp_path, device="cpu", data_folder=None)
    assert result.weights == 16 * 300 + 300 * 100 + 100 * 10
    floor = result.weights * 20 / 1e6  # milliseconds
    assert floor_ratio(result) == pytest.approx(1 + floor / result.train.median_ms["dense"])
    assert result.threads == result.made.machine["threads"]
    for part in (result.train, result.evaluate):
        assert {way: len(found) for way, found in part.ms.items()} == dict.fromkeys(WAYS, 6)
        assert min(itertools.chain(*part.ms.values())) > 0


def test_steps_are_timed_in_training_and_passes_in_evaluation(monkeypatch):
    seen = []

    def noted(work, device):
        seen.append((work.__name__, work.__self__.model.training))
        return 1.0

    monkeypatch.setattr(step_times, "milliseconds", noted)
    StepCost(LENET, rounds=6)._times(CPU)
    assert seen == [("train", True)] * 6 * len(WAYS) + [("evaluate", False)] * 6 * len(WAYS)


def test_bandwidth_counts_what_is_read_and_written(monkeypatch):
    times, copied = iter([50.0, 2.0, 2.0, 2.0]), []

    def noted(work, device):
        copied.append(work())
        return next(times)

    monkeypatch.setattr(stopwatch, "milliseconds", noted)
    assert stopwatch.bandwidth(CPU, size=4000, repeats=3) == 2 * 4000 / 0.002
    assert copied[0].sum() == 1000


def test_all_cores_are_used(monkeypatch):
    monkeypatch.setattr(stopwatch.os, "cpu_count", lambda: 3)
    assert stopwatch.use_all_cores() == torch.get_num_threads() == 3


def test_milliseconds_are_those_of_the_work(monkeypatch):
    clock = iter([5.0, 5.25])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(clock))
    assert stopwatch.milliseconds(lambda: None, CPU) == 250.0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell its peak of memory")
def test_the_memory_is_that_of_a_process_of_its_own():
    ballast = np.ones(40_000_000)  # 320 MB that are not the step's
    wide = StepSetting("lenet_300_100", (1, 28, 28), batch=8000)
    least = 4 * 8000 * 784 + 3 * 4 * 266_610  # images; weights, gradients, momentum
    assert least < peak_bytes(wide, "dense", CPU) < 4 * least
    assert ballast.sum() == 40_000_000


def test_where_the_system_does_not_tell_there_is_no_number(monkeypatch, tmp_path):
    monkeypatch.setattr(step_memory, "_PROCESS", tmp_path)
    assert step_memory._peak_of_process(LENET, "dense") is None


@pytest.mark.gpu
def test_a_gpu_is_timed_and_its_memory_counted():
    gpu = torch.device("cuda")
    times = StepCost(CONV, rounds=6)._times(gpu)
    assert min(itertools.chain(*times["train"].values())) > 0
    assert peak_bytes(CONV, "ours", gpu) > 4 * step_times.prunable(CONV)
