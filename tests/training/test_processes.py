"""Training over several processes: the same as in one, and the same on each."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from together import Together, together
from torch import nn

from supermask import EdgePopup, SupermaskError, data, models
from supermask.baselines import Dense, RandomMask
from supermask.data.synthetic import read_synthetic
from supermask.errors import RunError
from supermask.runs import Job, run
from supermask.training import Recipe, Stopped, evaluate, reestimate, train
from supermask.training.batches import Batches, Prepared
from supermask.training.checkpoint import load_checkpoint
from supermask.training.interrupts import Pace, StopRequest
from supermask.training.loop import CHECKPOINT
from supermask.training.processes import ALONE, Processes, joined, own_device

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=3, batch_size=64)
CLOSE = 1e-5
"""By how much a score or a weight of several processes may differ from that of one after some tens of steps.

They differ by the order of sums in float32 (measured: up to 2e-7), and far more once a mask differs in one weight.
"""


def synthetic():
    return data.load("synthetic", seed=0, validation=0)


def lenet():
    torch.manual_seed(0)
    return models.build("lenet_300_100", input_shape=(1, 8, 8))


def search():
    return EdgePopup(lenet(), density=0.3)


def state(subject, outcome):
    """Return what a training came to, as plain values."""
    tensors = {name: tensor.tolist() for name, tensor in subject.model.state_dict().items()}
    return {
        "tensors": tensors,
        **{key: value for key, value in vars(outcome).items() if key not in ("seconds", "last")},
    }


def trained(make, recipe):
    subject = make()
    return state(subject, train(subject, synthetic(), recipe, seed=0))


def assert_close(several, one):
    assert several["history"] == [pytest.approx(record, rel=CLOSE) for record in one["history"]]
    assert several["best_step"] == one["best_step"]
    assert several["test"].correct == one["test"].correct
    assert several["test"].loss == pytest.approx(one["test"].loss, rel=CLOSE)
    for name, tensor in one["tensors"].items():
        if name.endswith("mask"):
            assert several["tensors"][name] == tensor
        else:
            torch.testing.assert_close(torch.tensor(several["tensors"][name]), torch.tensor(tensor), rtol=0, atol=CLOSE)


CASES = {
    "a search": (search, RECIPE),
    "shares that differ": (search, replace(RECIPE, batch_size=50)),
    "dense, Adam, augmented": (
        lambda: Dense(lenet()),
        replace(RECIPE, batch_size=63, optimizer="adam", learning_rate=1e-3, augment=True),
    ),
    "nothing to train": (lambda: RandomMask(lenet(), density=0.3), replace(RECIPE, epochs=0)),
    "parameters that no output depends on": (lambda: Dense(Unused()), RECIPE),
}


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = lenet(), nn.Linear(3, 3)

    def forward(self, images):
        return self.used(images)


def ended(names):
    return {name: trained(*CASES[name]) for name in names}


@pytest.mark.parametrize(("size", "names"), [(2, [*CASES]), pytest.param(4, [*CASES][:2], marks=pytest.mark.slow)])
def test_several_processes_end_as_one_does_and_all_alike(size, names):
    ranks = together(size, ended, names)
    assert all(rank == ranks[0] for rank in ranks), "each process holds the same bits"
    for name, one in ended(names).items():
        assert_close(ranks[0][name], one)


class Noted(nn.Module):
    """Normalises, drops out, and notes what is drawn."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, 10)),
        )
        self.drawn = []

    def forward(self, images):
        if self.training and torch.is_grad_enabled():
            self.drawn.append(torch.rand(1).item())
        return self.layers(images)


def normalised():
    subject = EdgePopup(Noted(), density=0.5)
    outcome = train(subject, data.load("synthetic", seed=0), RECIPE, seed=0)
    return state(subject, outcome), subject.model.drawn


def twice():
    return normalised(), normalised()


def test_batch_norm_and_dropout():
    (first, again), (second, _) = together(2, twice)
    assert first == again, "the same seed and the same number of processes give the same"
    assert first[0] == second[0], "statistics and all"
    assert first[0]["test"].accuracy > 0.5
    drawn = first[1], second[1]
    assert len(set(drawn[0] + drawn[1])) == 2 * len(drawn[0]) > 0
    assert drawn[0][0] == normalised()[1][0], "the first process draws as one alone"


def shares():
    """Return the score and the statistics that several processes give a network, and the batches of this one."""
    set_of_many = replace(read_synthetic(train=3456), validation=read_synthetic(train=3456).train)
    recipe = replace(RECIPE, augment=True, batch_size=50)
    with joined(CPU) as processes:
        batches = Batches(set_of_many, recipe, seed=0, device=CPU, processes=processes)
        network = Noted()
        reestimate(network, batches.first(7), processes)
        score = evaluate(network, Prepared(set_of_many, set_of_many.validation, recipe, processes), processes)
        images, labels = batches.batch(3)
        buffers = [buffer.tolist() for buffer in network.buffers()]
        moment = processes.led(time.monotonic_ns)
        return buffers, score, (images.tolist(), labels.tolist()), batches.weight, moment


@pytest.mark.parametrize("size", [2, 3])
def test_batches_statistics_and_examples_are_shared_out(size):
    ranks, one = together(size, shares), shares()
    assert all(rank[:2] == ranks[0][:2] for rank in ranks)
    for several, alone in zip(ranks[0][0], one[0], strict=True):
        torch.testing.assert_close(torch.tensor(several), torch.tensor(alone), rtol=1e-5, atol=1e-6)
    assert (ranks[0][1].correct, ranks[0][1].total) == (one[1].correct, 3456)
    assert ranks[0][1].loss == pytest.approx(one[1].loss, rel=1e-5)
    for part in range(2):  # in order, each once, augmented alike
        assert [value for rank in ranks for value in rank[2][part]] == one[2][part]
    lengths = [len(rank[2][1]) for rank in ranks]
    assert max(lengths) - min(lengths) == (50 % size > 0)
    assert [rank[3] for rank in ranks] == [size * length / 50 for length in lengths]
    assert all(ranks[0][4] < rank[4] for rank in ranks[1:]), "the first one goes ahead"


class Astray(EdgePopup):
    """Edge-popup of which one process leaves the common way at a step."""

    def __init__(self, what, at):
        super().__init__(lenet(), density=0.3)
        self.what, self.at = what, at

    @torch.no_grad()
    def step(self):
        super().step()
        if self.steps == self.at and dist.get_rank() == 1:
            self.what(self.model.fc2.parametrizations.weight)


def one_score(weight):
    weight.original[3, 3] *= 1.0 + 1e-6


def one_mask(weight):
    weight[0].mask[3, 3] ^= True


def refused(action):
    try:
        action()
    except SupermaskError as error:
        return error
    return None


def came_apart(folder):
    end = lambda what, at: train(  # noqa: E731
        Astray(what, at), synthetic(), replace(RECIPE, evaluate_every=4), seed=0, folder=folder, checkpoint_seconds=0.0
    )
    return [
        refused(lambda: end(one_score, 15)),  # seen at the evaluation, or before it at a checkpoint
        refused(lambda: end(one_mask, 1)),
        refused(lambda: train(search(), synthetic(), replace(RECIPE, batch_size=1), seed=0)),
        refused(lambda: run(Job(data="synthetic", recipe=RECIPE), folder / "file" / "run")),
        refused(lambda: train(Dense(seeded()), synthetic(), RECIPE, seed=0)),
    ]


def seeded():
    torch.manual_seed(dist.get_rank() if dist.is_initialized() else int(os.environ["RANK"]))
    return nn.Sequential(nn.Flatten(), Scaled(), nn.Linear(64, 10))


class Scaled(nn.Module):
    """Has a parameter that the dense baseline leaves as it is."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.rand(64))

    def forward(self, inputs):
        return inputs * self.factor


def test_what_all_refuse(tmp_path):
    (tmp_path / "file").write_text("")
    first, second = together(2, came_apart, tmp_path)
    assert list(map(str, first)) == list(map(str, second)), "all of them, in the same words"
    for error, says in zip(
        first,
        [
            r"After step 1[56] process 1 holds other parameters or masks than process 0; start all",
            r"After step [1-4] process 1 holds other",
            r"batch_size=1 is smaller than the 2 processes",
            r"Cannot write the folder",
            r"After step 0 process 1 holds other",
        ],
        strict=True,
    ):
        assert re.search(says, str(error))
    assert isinstance(first[0], RunError)
    checkpoint = tmp_path / CHECKPOINT
    assert not checkpoint.exists() or load_checkpoint(checkpoint)["step"] < 15, "what came apart is not kept"


def in_a_group_of_ones_own():
    dist.init_process_group("gloo")
    try:
        result = trained(search, RECIPE)
        assert dist.is_initialized(), "it is not ours to destroy"
        return result
    finally:
        dist.destroy_process_group()


def crash_of_one():
    class Crash(EdgePopup):
        def step(self):
            super().step()
            if self.steps == 5 and dist.get_rank() == 1:
                raise ZeroDivisionError

    train(Crash(lenet(), density=0.3), synthetic(), RECIPE, seed=0)


def test_a_group_that_is_there_is_used_and_a_process_that_ends_ends_all():
    assert together(2, in_a_group_of_ones_own)[0] == together(2, trained, search, RECIPE)[1]
    first, second = together(2, crash_of_one)
    assert isinstance(second, ZeroDivisionError)
    assert isinstance(first, RunError)
    assert "Another process of this run has ended" in str(first)


LONG = Job(data="synthetic", validation=0, recipe=Recipe(epochs=12, batch_size=50))
"""240 steps."""


def work(folder, checkpoint_seconds=0.0):
    return run(LONG, folder, resume=True, checkpoint_seconds=checkpoint_seconds, progress=False)


def slowly(folder):
    """Leave time for signals."""
    step = EdgePopup.step

    def slow(self):
        step(self)
        time.sleep(0.02)

    EdgePopup.step = slow
    return work(folder)


def stop(folder, size, number, ranks=None):
    """Signal so many processes after their first checkpoint; return what came of them and the step that is kept."""
    with Together(size, slowly, folder) as processes:
        end = time.monotonic() + 60.0
        before = load_checkpoint(folder / CHECKPOINT)["step"] if (folder / CHECKPOINT).exists() else 0
        while not (folder / CHECKPOINT).exists() or load_checkpoint(folder / CHECKPOINT)["step"] <= before:
            assert time.monotonic() < end
            time.sleep(0.01)
        processes.signal(number, ranks)
        results = [] if number == signal.SIGKILL else processes.results()
    return results, load_checkpoint(folder / CHECKPOINT)["step"]


def assert_same_run(folder, whole):
    one, other = (json.loads((path / "result.json").read_text()) for path in (whole, folder))
    assert other["history"] == [pytest.approx(record, rel=1e-3) for record in one["history"]]
    assert other["test"]["correct"] == one["test"]["correct"]


def test_killed_under_two_stopped_under_two_and_resumed_with_one(tmp_path):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    one = work(whole, 60.0)
    _, killed = stop(folder, 2, signal.SIGKILL)
    results, stopped = stop(folder, 2, signal.SIGTERM, ranks=[1])
    assert 0 < killed < stopped < one.steps
    assert [str(result) for result in results] == [f"stopped after step {stopped} of 240"] * 2
    assert all(isinstance(result, Stopped) for result in results)
    assert work(folder, 60.0).made.processes == 1
    assert_same_run(folder, whole)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.slow
def test_resumed_with_four_and_with_two(tmp_path):
    work(tmp_path / "whole", 60.0)
    folder = tmp_path / "run"
    stop(folder, 2, signal.SIGKILL)
    stop(folder, 4, signal.SIGINT)
    results = together(2, work, folder)
    assert results[0] == results[1]
    assert results[0].made.processes == 2
    assert_same_run(folder, tmp_path / "whole")


class Heard(Processes):
    """Two processes of which the other one wants nothing."""

    def greatest(self, *values):
        return list(values)


def test_two_ask_each_other_about_twice_a_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace, asked = Pace(Heard(0, 2)), []
    for step in range(1, 101):
        now[0] += 0.1
        if pace.agreed(True, False) == (True, False):
            asked.append(step)
    assert asked[0] == 1
    assert {later - earlier for earlier, later in pairwise(asked)} <= {4, 5}
    assert [Pace(ALONE).agreed(True, False), Pace(ALONE).agreed(False, True)] == [(True, False), (False, True)]


def test_a_signal_that_is_passed_on_is_no_second_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with StopRequest(forwarded=True) as stop:
            for now[0] in (0.0, 0.01, 4.9):
                signal.raise_signal(signal.SIGINT)
                assert stop.asked
            now[0] = 6.0
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("cuda") == torch.device("cuda")
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.setenv(name, "8" if name == "WORLD_SIZE" else "1")
    assert own_device("cuda") == torch.device("cuda:1")
    assert [own_device("cpu"), own_device("cuda:0")] == [CPU, torch.device("cuda:0")]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(SupermaskError, match="Process 2 on this machine has no GPU: PyTorch sees 2"):
        own_device("cuda")


def command(folder, arguments):
    """Run the command line as a process of torchrun; both streams of all processes go to one file."""
    from supermask.cli import main

    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    descriptor = os.open("said", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with os.fdopen(descriptor, "w") as said, redirect_stdout(said), redirect_stderr(said):
        try:
            return main(arguments)
        except SystemExit as end:
            return end.code


TRAIN = ["--data", "synthetic", "--device", "cpu", "--out", "run"]
SAYINGS = [
    (["search", *TRAIN, "--batch-size", "1"], "batch_size=1 is smaller than", 2),
    (["search", *TRAIN, "--learning-rate", "1e30"], "the training diverged", 2),
    (["search", *TRAIN, "--device", "cuda:0"], "--device cuda:0", 2),
    (["search", "--densty", "0.1"], "Perhaps you meant", 2),
    (["search", "--help"], "usage: supermask search", 0),
    (["evaluate", "network.ticket"], "run anything else without torchrun", 2),
    (["compare", *TRAIN, "--seeds", "1", "--learning-rate", "1e30"], "Failed, and taken up again", 2),
    (["compare", *TRAIN, "--seeds", "1", "--epochs", "1"], "In run: table.md", 0),
]


def commands(folder):
    return [command(folder / str(place), arguments) for place, (arguments, _, _) in enumerate(SAYINGS)]


def test_the_command_line_speaks_once(tmp_path):
    assert together(2, commands, tmp_path) == [[status for _, _, status in SAYINGS]] * 2
    for place, (_, says, _) in enumerate(SAYINGS):
        said = (tmp_path / str(place) / "said").read_text()
        assert said.count(says) == 1, said
        assert "Traceback" not in said
    assert said.count("dense seed 0: test accuracy") == said.count("| edge_popup ") == 1


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "supermask"]


@pytest.mark.slow
def test_under_torchrun_ctrl_c_stops_and_the_same_command_goes_on(tmp_path):
    asked = [*TORCHRUN, "search", "--data", "synthetic", "--device", "cpu", "--out", "run"]
    long = [*asked, "--epochs", "100000"]
    process = subprocess.Popen(long, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "run/metrics.jsonl").exists():
        time.sleep(0.1)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to torchrun and to both processes
    error = process.communicate(timeout=100)[1]
    assert error.count("stopped after step") == 1, error
    step = load_checkpoint(tmp_path / "run" / CHECKPOINT)["step"]
    assert f"stopped after step {step} of" in error
    again = subprocess.run(long, cwd=tmp_path, capture_output=True, text=True)
    assert again.stderr.count("add --resume") == 1
    assert again.returncode != 0
    short = subprocess.run([*asked[:-1], "other", "--epochs", "1"], cwd=tmp_path, capture_output=True, text=True)
    assert short.returncode == 0
    assert short.stdout.count("test accuracy") == 1
