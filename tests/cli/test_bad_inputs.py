"""Whatever is wrong with a call is said in a sentence, with an exit status that is not 0."""

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from supermask import EdgePopup, models
from supermask.cli import main
from supermask.ticket.container import seal, unseal


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files to stand for the words in braces."""
    folder = tmp_path_factory.mktemp("files")
    with_provenance(folder / "sound")
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
    return said


SOUND = {
    "search": ["--data", "synthetic", "--epochs", "0"],
    "train": ["--data", "synthetic", "--epochs", "0"],
    "compare": ["--data", "synthetic", "--epochs", "0", "--seeds", "1"],
    "sweep": ["--data", "synthetic", "--epochs", "0", "--seeds", "1", "--cluster", "local"],
    "evaluate": ["{sound}", "--data", "synthetic"],
    "inspect": ["{sound}"],
    "transfer": ["{sound}", "--data", "synthetic", "--epochs", "0"],
    "export": ["{sound}", "--format", "torch_export"],
    "judge": ["{sound}", "--data", "synthetic"],
    "construct": ["--target", "lenet_300_100"],
}
"""What each command would carry out if nothing were wrong; it is short."""
WRITING = {
    "search": SOUND["search"],
    "train": SOUND["train"],
    "compare": SOUND["compare"],
    "evaluate": SOUND["evaluate"],
    "inspect": SOUND["inspect"],
    "sweep": SOUND["sweep"],
    "transfer": SOUND["transfer"],
    "export": SOUND["export"],
    "judge": [*SOUND["judge"], "--minutes", "0.1"],
    "construct": ["--target", "{small}", "--epsilon", "0.5"],
}


@pytest.mark.parametrize("command", WRITING)
def test_a_full_disk_is_told_in_a_sentence_and_leaves_no_half_file(command, files, capsys, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "small")
    monkeypatch.setattr(os, "fsync", full)  # where the last bytes of a file go out
    call = [command, *WRITING[command], "--out", str(tmp_path / "out")]
    refused(call, {**files, "small": str(tmp_path / "small")}, capsys)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("command", WRITING)
def test_a_folder_that_another_process_fills_is_refused(command, files, capsys, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "small")
    (tmp_path / "out").mkdir()
    with (tmp_path / "out/.held").open("w") as held:  # a lock of another open file is as one of another process
        held.write("process 7 on elsewhere")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        call = [command, *WRITING[command], "--out", str(tmp_path / "out")]
        said = refused(call, {**files, "small": str(tmp_path / "small")}, capsys)
    assert "is being filled by process 7 on elsewhere; wait for it" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".held"]


@pytest.mark.parametrize("room", [0, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", WRITING)
def test_no_file_grows_beyond_what_there_is_room_for(command, room, files, capsys, tmp_path):
    """As on a full disk, each write fails, those of other libraries too; so does one that begins well."""
    resource = pytest.importorskip("resource")
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "small")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        call = [command, *WRITING[command], "--out", str(tmp_path / "out")]
        refused(call, {**files, "small": str(tmp_path / "small")}, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.rglob("*.part"))
    assert all(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".ticket"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_output_is_told_in_a_sentence(files):
    code = "import sys; from supermask.cli import main; sys.exit(main(sys.argv[1:]))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "inspect", files["sound"]], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "supermask: Cannot read or write a file: No space left on device.\n"


@cache
def found(side):
    """Return a ticket of the small network for images of this size."""
    return EdgePopup(models.build("lenet_300_100", input_shape=(1, side, side)), density=0.5, seed=3).ticket()


def with_provenance(path, **made):
    """Write a ticket of the small network that says this of where it comes from."""
    replace(found(8), provenance={"model": MADE, "data": "digits", **made}).save(path)
    return str(path)


NAMELESS = (None, [], 1, "binary:" * 4_000, "os:system", "\x1b[2J")
MADE = {"name": "lenet_300_100", "input_shape": [1, 8, 8], "classes": 10, "width": 1.0}
SAID = {
    **{f"name {str(junk)[:9]}": {**MADE, "name": junk} for junk in NAMELESS},
    **{
        f"input shape {str(junk)[:9]}": {**MADE, "input_shape": junk}
        for junk in (None, 8, [], [1.0, 8, 8], [1, 10**400, 1], [1, 60_000, 60_000], [10**9] * 3, "8x8", [1, 4, 16, 1])
    },
    **{f"classes {str(junk)[:9]}": {**MADE, "classes": junk} for junk in (None, 3 * 10**7, 2**63, "ten", 10.0, True)},
    **{f"width {str(junk)[:9]}": {**MADE, "width": junk} for junk in (None, 1e9, 1e300, 10**400, "wide", -1, True)},
    "many modules": {"modules": [["ReLU", {}]] * 100_000},
    "a module of another kind": {"modules": [["Sequential", {}], 1, None]},
    "huge modules": {"modules": [["Linear", {"in_features": 10**12, "out_features": 10**12}]]},
    "a huge padding": {"modules": [["ZeroPad2d", {"padding": [10**9, 10**9, 10**9, 10**9]}]]},
    "a wide network": {**MADE, "width": 300.0},
    "another network": {**MADE, "name": "resnet20"},
    "no network": {},
}


@pytest.mark.parametrize(
    "command", ["evaluate", *(pytest.param(name, marks=pytest.mark.slow) for name in ("export", "compare"))]
)
def test_a_network_that_cannot_be_is_refused_before_memory_is_taken(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, said in enumerate(SAID.values()):
        path = with_provenance(tmp_path / f"{number}.ticket", model=said)
        words = ["compare", "--ticket", path] if command == "compare" else [command, path]
        refused([*words, *(["--data", "digits"] if command == "evaluate" else [])], {}, capsys)
    # 300 MB are the libraries that a first call imports
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_what_a_ticket_says_is_shown_whatever_it_is(capsys, tmp_path):
    junk = {"algorithm": "a\x1b]0;title\x07\0\u202eb|c", "metrics": {"\x9b2J": [1e300, None]}, "versions": 10**400}
    for said in SAID.values():
        path = with_provenance(tmp_path / "some.ticket", model=said, **junk)
        assert main(["inspect", path]) == 0
        shown = capsys.readouterr().out
        assert all(line.isprintable() for line in shown.splitlines())
        assert len(shown) < 30_000
        assert r"a\x1b]0;title\x07\x00\u202eb|c" in shown
    assert main(["inspect", path, "--out", str(tmp_path / "out")]) == 0


@cache
def chain():
    """Return a ticket of a network that is described by its modules, which do not say what they take."""
    return EdgePopup(nn.Sequential(nn.Flatten(), nn.Linear(256, 10, bias=False)), density=0.5, seed=3).ticket()


MODULES = {"modules": [["Flatten", {}], ["Linear", {"in_features": 256, "out_features": 10, "bias": False}]]}


@pytest.mark.parametrize("command", ["evaluate", "judge", "compare"])
@pytest.mark.parametrize(
    ("ticket", "model"), [(lambda: found(16), {**MADE, "input_shape": [1, 16, 16]}), (chain, MODULES)]
)
def test_data_that_do_not_fit_are_refused_in_a_sentence(command, ticket, model, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "large.ticket")
    replace(ticket(), provenance={"model": model, "data": "digits"}).save(path)
    words = ["compare", "--ticket", path] if command == "compare" else [command, path]
    said = refused([*words, "--data", "digits"], {}, capsys)
    assert "does not take the 1x8x8 images of digits" in said or "takes images of [1, 16, 16]" in said
