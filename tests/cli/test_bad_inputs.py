"""Whatever is wrong with a call is said in a sentence, with an exit status that is not 0."""

import re
from dataclasses import replace

import pytest
import torch
from bad_inputs import COMMANDS, bad_calls

from supermask import EdgePopup, models
from supermask.cli import main
from supermask.ticket.container import seal, unseal


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files to stand for the words in braces."""
    folder = tmp_path_factory.mktemp("files")
    made = {"name": "lenet_300_100", "input_shape": [1, 8, 8], "classes": 10, "width": 1.0}
    ticket = EdgePopup(models.build("lenet_300_100", input_shape=(1, 8, 8)), density=0.5, seed=3).ticket()
    replace(ticket, provenance={"model": made, "data": "digits"}).save(folder / "sound")
    data = (folder / "sound").read_bytes()
    (folder / "cut").write_bytes(data[:-1])
    (folder / "strange").write_bytes(seal(unseal(data)._replace(header=b"\xff")))
    (folder / "text").write_text("a text\n")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    names = ("sound", "cut", "strange", "text", "empty", "folder", "missing")
    return {**{name: str(folder / name) for name in names}, "file": str(folder / "text")}


def refused(call, files, capsys):
    """Run a call in this process, and hold it to what a refusal is."""
    words = [re.sub(r"{(\w+)}", lambda found: files[found[1]], word) for word in call]
    threads = torch.get_num_threads()
    try:
        status = main(words)
    except SystemExit as end:  # the parser of the arguments
        status = end.code
        sentence = False
    else:
        sentence = True
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().err
    assert status not in (0, None), words
    assert said.strip(), words
    assert "Traceback" not in said
    assert "\x1b[2J" not in said
    assert len(said) < 20_000
    if sentence:
        last = said.strip().splitlines()[-1]
        assert last.startswith("supermask: "), words
        assert last.endswith("."), words
        assert len(last) < 2_000


@pytest.mark.parametrize("count", [10, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_call_is_refused_in_a_sentence(command, count, files, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in bad_calls(command, count):
        refused(call, files, capsys)
    assert not list(tmp_path.rglob("*.part"))
