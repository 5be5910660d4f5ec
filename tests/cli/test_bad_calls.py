"""Five hundred different calls of every command that cannot be carried out: each is refused in a sentence."""

import importlib
import os
import re
import shutil
import sys

import pytest
import torch
from bad_calls import calls_of, calls_of_experiments, kind_of, spread
from bad_things import PACKAGE, write_things
from bad_values import SOUND

import experiments.gpu.command as gpu
from experiments.__main__ import main as experiments
from experiments.framework import commands
from experiments.records import command as records
from experiments.registry import EXPERIMENTS as REGISTERED
from supermask.cli import main as supermask

KINDS = {
    "list": commands.List,
    "run": commands.Run,
    "report": commands.Report,
    "board": records.Board,
    "check": records.Check,
    "add": records.Add,
}
COMMANDS = [*SOUND, "experiments"]
BEGUN = {"config.json", "metrics.jsonl", ".held", "run.checkpoint", "submitted.json", "findings.jsonl"}
"""What a run that has begun, and was refused in its course, may leave: settings and numbers, and no result."""


class Place:
    """A folder with everything that bad calls name, and an empty one to call them in."""

    def __init__(self, folder):
        self.things, self.here = folder / "things", folder / "here"
        self.things.mkdir()
        self.lists = write_things(self.things)
        names = {"folder": "folder", "missing": "missing", "link": "link", "loop": "loop", "sound": "sound.ticket"}
        names |= {"sound_npz": "sound.npz", "target": "sound.pt", "file": "text/short60", "text": "text/short1000"}
        self.words = {name: str(self.things / path) for name, path in names.items()}
        self.words["things"] = str(self.things)
        self.words["code"] = f"{PACKAGE}.things:"
        self.before = self._files()

    def _files(self):
        return {str(path) for path in self.things.rglob("*") if "__pycache__" not in path.parts}

    def empty(self):
        """Empty the folder of calls, and go there."""
        os.chdir(self.things)
        shutil.rmtree(self.here, ignore_errors=True)
        self.here.mkdir()
        os.chdir(self.here)

    def written(self):
        """Return the files that were written, but for what a run begins with."""
        found = [str(path) for path in self.here.rglob("*") if path.is_file() and path.name not in BEGUN]
        new = self._files() - self.before
        for path in new:
            os.unlink(path) if os.path.isfile(path) else None
        return found + [path for path in new if os.path.basename(path) not in BEGUN]

    def fill(self, words):
        return [re.sub(r"{(\w+)}", lambda found: self.words.get(found[1], found[0]), word) for word in words]


def calls(command, count, place):
    """Return different bad calls of a command, each with what is wrong in it."""
    if command == "experiments":
        found = calls_of_experiments(KINDS, list(REGISTERED))
    else:
        found = calls_of(command, kind_of(command), place.lists)
    filled = {what: [place.fill(call) for call in every] for what, every in found.items()}
    return spread(filled, count, command)


def fault(command, words, place, read):
    """Make a call; return what is wrong with how it was refused, None where nothing is."""
    place.empty()
    threads, sentence = torch.get_num_threads(), True
    try:
        status = experiments(words) if command == "experiments" else supermask([command, *words])
    except SystemExit as end:  # the parser of the arguments
        status, sentence = end.code, False
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | MemoryError):
            raise
        read()
        place.written()
        return f"raised {type(error).__name__}: {str(error)[:300]}"
    finally:
        torch.set_num_threads(threads)
    said, left = read(), place.written()
    last = (said.strip().splitlines() or [""])[-1]
    if status in (0, None):
        return f"accepted: {last[:300]}"
    if left:
        return f"wrote {left[:3]}: {last[:300]}"
    if "Traceback" in said or "\x1b[2J" in said or len(said) > 20_000 or not last:
        return f"said {said[-300:]!r}"
    if sentence and not (
        last.startswith(("supermask: ", "experiments: ")) and last.endswith(".") and len(last) < 2_000
    ):
        return f"said no sentence: {last[:300]!r}"
    return None


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("place"))
    before = os.getcwd()
    sys.path.insert(0, str(place.things))
    importlib.invalidate_caches()
    yield place
    sys.path.remove(str(place.things))
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]
    os.chdir(before)


def nothing_runs(monkeypatch):
    """Let no experiment and no stage run that is asked for: that it would is the fault."""

    def ran(*_, **__):
        raise AssertionError("it was run")

    for name in ("run_experiment", "write_report"):
        monkeypatch.setattr(commands, name, ran)
    monkeypatch.setattr(records, "write_whole", ran)
    monkeypatch.setattr(gpu, "_run_all", ran)


@pytest.mark.parametrize("count", [10, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_bad_call_is_refused_and_leaves_no_result(command, count, place, capsys, monkeypatch):
    nothing_runs(monkeypatch)
    found = calls(command, count, place)
    assert len({tuple(words) for _, words in found}) == count
    faults = {
        (what, *map(str, words)): fault(command, words, place, lambda: capsys.readouterr().err) for what, words in found
    }
    assert {call: said for call, said in faults.items() if said is not None} == {}


FOUND = [
    ("evaluate", "{sound} --data digits --loss {code}any_exit_0"),  # a status of 0, and nothing was evaluated
    ("evaluate", "{sound} --data digits --loss {code}any_GeneratorExit"),
    ("evaluate", "{sound} --data digits --loss {code}loss_bad2"),
    ("evaluate", "{sound} --data digits --loss {code}loss_bad3"),
    ("evaluate", "{sound} --data digits --loss="),
    ("evaluate", "{sound} --data="),
    ("evaluate", "{sound} --data {code}any_mute"),
    ("evaluate", "{sound} --data {code}any_exit"),
    ("evaluate", "{sound} --data {code}data_train0"),
    ("evaluate", "{sound} --data {code}data_classes1"),
    ("evaluate", "{sound} --data npz:{things}/npz/declares3.npz"),
    ("evaluate", "{sound} --data npz:{things}/npz/cut19.npz"),
    ("evaluate", "{sound} --data digits --out a\0b"),
    ("evaluate", "{sound} --part \x1b[2J"),
    ("inspect", "{sound} --model nosuch"),
    ("transfer", "{sound} --data folder:{things}/image/one_each"),
    ("experiments", "list --runs {file}/x"),
    ("experiments", "records check --entries {missing}"),
    ("experiments", "gpu --seconds nan"),
    ("experiments", "gpu --out {file}"),
    ("sweep", "--data digits --models lenet_300_100 --cluster local --dry-run --checkpoint-seconds nan"),
    ("compare", "--data digits --dry-run --iterations 1 --test-at 99"),
    ("compare", "--dry-run --ticket="),
    ("compare", "--dry-run --methods early_bird --early-bird.penalty nan"),
    ("compare", "--dry-run --methods synflow --synflow.state-step=-7"),
    ("compare", "--dry-run --include " + "x" * 5000),
    ("construct", "{target} --epsilon 0.5 --data {code}data_loaders4"),
]


@pytest.mark.parametrize(("command", "call"), FOUND)
def test_what_was_once_accepted_or_raised_is_refused(command, call, place, capsys, monkeypatch):
    nothing_runs(monkeypatch)
    assert fault(command, place.fill(call.split(" ")), place, lambda: capsys.readouterr().err) is None


@pytest.mark.parametrize("command", [name for name in SOUND if name not in ("search", "judge", "sweep")])
def test_what_the_bad_calls_are_made_of_is_sound(command, place, capsys):
    place.empty()
    assert supermask([command, *place.fill(SOUND[command])]) == 0, capsys.readouterr().err
    place.written()
