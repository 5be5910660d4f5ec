"""A ticket's file says anything of where it comes from: no command imports code or opens files that it alone names."""

import json
import sys
from dataclasses import replace

import pytest
from own_things import write_npz

from supermask import EdgePopup, Ticket, data, models
from supermask.cli import main
from supermask.errors import SupermaskError
from supermask.runs.diagnostics import Context
from supermask.runs.run_controls import run_controls
from supermask.runs.ticket_model import built_from, data_of, loss_of, network_of
from supermask.training import Recipe

SIZES = {"input_shape": [1, 8, 8], "classes": 10, "width": 1.0}
EVIL = "evil_of_tests"


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A folder with a module that says so when it is imported, and a ticket in it; the commands run there."""
    (tmp_path / f"{EVIL}.py").write_text(
        "from pathlib import Path\nPath('caught').touch()\nmodel = data = loss = print\n"
    )
    write_npz(tmp_path / "secret.npz")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "caught").exists()
    assert EVIL not in sys.modules


def ticket_of(model="lenet_300_100", **provenance):
    """Return the path of a sound ticket of LeNet that says of itself what is asked."""
    found = EdgePopup(models.build("lenet_300_100", input_shape=(1, 8, 8)), density=0.5, seed=3).ticket()
    made = {"model": {"name": model, **SIZES}, "data": "digits", **provenance}
    replace(found, provenance=made).save("evil.ticket")
    return "evil.ticket"


CODE = [f"{EVIL}:model", f"{EVIL}:print", f"{EVIL}.x:model", "os:system", "subprocess:run", "builtins:exec"]
COMMANDS = {
    "evaluate": ["evaluate", "evil.ticket", "--device", "cpu"],
    "export": ["export", "evil.ticket", "--format", "torch_export"],
    "judge": ["judge", "evil.ticket", "--minutes", "0.01", "--device", "cpu"],
    "controls": ["compare", "--ticket", "evil.ticket", "--seeds", "1", "--epochs", "0", "--device", "cpu"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", CODE)
def test_no_command_imports_the_model_that_a_file_names(command, name, trap, capsys):
    ticket_of(name)
    for asked in ([], ["--model", "lenet_300_100"], ["--model", f"{EVIL}:other"]):
        assert main([*COMMANDS[command], *asked]) == 2
        error = capsys.readouterr().err
        assert "evil.ticket is of the model" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("name", CODE)
def test_inspect_shows_what_a_file_names_and_imports_nothing(name, trap, capsys):
    ticket_of(name, loss=name)
    assert main(["inspect", "evil.ticket", "--out", "shown"]) == 0
    assert name in capsys.readouterr().out
    assert main(["inspect", "evil.ticket", "--given", "secret.npz"]) == 2
    assert "is of the model" in capsys.readouterr().err


DATA = [
    f"{EVIL}:data",
    "npz:secret.npz",
    "folder:.",
    "text:/etc/passwd",
    "npz:/etc/shadow",
    "text:secret.npz?context=2",
]


@pytest.mark.parametrize("command", ["evaluate", "judge", "controls"])
@pytest.mark.parametrize("name", DATA)
def test_no_command_opens_or_imports_the_data_that_a_file_names(command, name, trap, monkeypatch, capsys):
    ticket_of(data=name)
    monkeypatch.setattr("supermask.data.registry.read_own", lambda *_: pytest.fail("was opened"))
    assert main(COMMANDS[command]) == 2
    error = capsys.readouterr().err
    assert "was found on" in error
    assert "give --data" in error


@pytest.mark.parametrize("name", [f"{EVIL}:loss", "os:system", ["mse"], 3, "\x1b[2Jmse"])
def test_no_command_imports_the_loss_that_a_file_names(name, trap, capsys):
    ticket_of(loss=name)
    assert main(COMMANDS["evaluate"]) == 2
    error = capsys.readouterr().err
    assert "give --loss" in error
    assert "\x1b" not in error


def test_the_library_imports_nothing_either(trap):
    path = trap / ticket_of(f"{EVIL}:model", loss=f"{EVIL}:loss")
    ticket = Ticket.load(path)
    with pytest.raises(SupermaskError, match="give --model"):
        built_from(ticket, path)
    with pytest.raises(SupermaskError, match="give --model"):
        network_of(ticket, path, None)
    with pytest.raises(SupermaskError, match="give --loss"):
        loss_of(ticket, path, None, data.load("digits"))
    with pytest.raises(SupermaskError, match="give --model"):
        run_controls(path, out=trap / "out", recipe=Recipe(epochs=0), controls=[])
    with pytest.raises(SupermaskError, match="give --model"):
        Context.of(path, None, out=trap / "out", minutes=1.0)
    other = replace(ticket, provenance={"data": f"{EVIL}:data"})
    with pytest.raises(SupermaskError, match="give --data"):
        data_of(other, path, None, folder=None, validation=None, seed=0)
    # names alone build nothing of the caller's own
    with pytest.raises(SupermaskError, match="Unknown model"):
        models.build(f"{EVIL}:model")


def test_a_run_folder_names_no_code_and_no_files(trap, capsys):
    (trap / "run").mkdir()
    (trap / "run" / "network.safetensors").write_bytes(b"")
    for config, says in (
        ({"model": f"{EVIL}:model", "width": 1.0, "data": "digits"}, "give --model too"),
        ({"model": "lenet_300_100", "width": 1.0, "data": f"{EVIL}:data"}, "give --data too"),
        ({"model": "lenet_300_100", "width": 1.0, "data": "npz:secret.npz"}, "give --data too"),
    ):
        (trap / "run" / "config.json").write_text(json.dumps(config))
        assert main(["construct", "--target", "run"]) == 2
        assert says in capsys.readouterr().err


SAID = [
    (
        {"name": "char_gpt", "input_shape": [64], "classes": 65, "width": 1.0, "vocabulary": 1 << 60},
        "raised RuntimeError",
    ),
    ({"name": "char_gpt", "input_shape": [64], "classes": 65, "width": 1.0, "vocabulary": "65"}, "vocabulary is '65'"),
    ({"name": "char_gpt", "input_shape": [64], "classes": 65, "width": 1.0, "vocabulary": -1}, "vocabulary is -1"),
    ({"name": "char_gpt", "input_shape": [], "classes": 65, "width": 1.0, "vocabulary": 65}, "must be positive"),
    ({"name": "char_gpt", "input_shape": [64], "classes": 65, "width": 1.0}, "char_gpt takes token ids"),
    ({"name": "char_gpt", "input_shape": [64], "classes": 65, "width": 1e20, "vocabulary": 65}, "raised TypeError"),
    ({"name": "char_gpt", "input_shape": [1 << 40], "classes": 65, "width": 1.0, "vocabulary": 65}, "more than"),
    ({"name": "lenet_300_100", "input_shape": [64], "classes": 10, "width": 1.0}, "must be three positive integers"),
]


@pytest.mark.parametrize(("model", "says"), SAID)
def test_sizes_of_tokens_that_no_network_has_are_refused(model, says, trap, capsys):
    ticket_of()
    found = replace(Ticket.load("evil.ticket"), provenance={"model": model, "data": "digits"})
    found.save("evil.ticket")
    for command in ("evaluate", "export"):
        assert main(COMMANDS[command]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
