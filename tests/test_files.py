"""A file is written whole or not at all, and what cannot be read or written is said in one sentence."""

import json
import os
import platform
import re
import stat
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from supermask import files
from supermask.errors import RunError, SupermaskError
from supermask.files import held, make_folder, read_json, remove_leftovers, tensor_bytes, write_json, write_whole


class Interruption(BaseException):
    """What a user's Ctrl-C is."""


def test_a_file_holds_what_was_written(tmp_path):
    write_whole(tmp_path / "a", b"one")
    write_whole(str(tmp_path / "a"), b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("stage", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Interruption()], ids=["full", "interrupted"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, stage, error):
    write_whole(tmp_path / "a", b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(files.os, stage, fail)
    with pytest.raises((SupermaskError, Interruption)) as caught:
        write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]
    if isinstance(error, OSError):
        assert str(caught.value).startswith(f"Cannot write {tmp_path / 'a'}: No space left on device;")


def test_the_file_is_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
    monkeypatch.setattr(files.os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    write_whole(tmp_path / "a", b"one")
    assert order == ["fsync", "replace"]


def test_the_temporary_file_lies_beside_the_file(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(files.os, "replace", lambda old, new: (seen.append(old), replace(old, new)))
    write_whole(tmp_path / "a", b"one")
    assert os.path.dirname(seen[0]) == str(tmp_path)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_has_the_usual_permissions(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "a", b"one")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("where", ["missing/a", "file/a", "folder"])
def test_what_cannot_be_written_is_named(tmp_path, where):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SupermaskError, match=f"Cannot write .*{where}: .*; give a folder that can be written"):
        write_whole(tmp_path / where, b"one")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_plain_values_are_read_back(tmp_path):
    value = {"b": [1, 2.5, None, True], "a": "größe"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]
    assert (tmp_path / "a.json").read_bytes().endswith(b"\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()], ids=["nan", "inf", "object"])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises((TypeError, ValueError)):
        write_json(tmp_path / "a.json", {"x": value})
    assert json.loads((tmp_path / "a.json").read_text()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "There is no file"), (b"{", "Cannot read"), (b"", "Cannot read"), (b'"\xff"', "Cannot read")],
)
def test_what_is_not_json_is_named(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SupermaskError, match=f"^{message} .*a.json"):
        read_json(path)


def test_a_folder_is_not_json(tmp_path):
    with pytest.raises(SupermaskError, match="Cannot read"):
        read_json(tmp_path)


def test_a_folder_is_made_with_those_above_it_and_may_be_there(tmp_path):
    for _ in range(2):
        assert make_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
        assert os.listdir(tmp_path / "a" / "b") == []


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_in_place_of_a_folder_is_named(tmp_path, where):
    (tmp_path / "file").write_text("")
    with pytest.raises(SupermaskError, match=f"Cannot write the folder .*{where}: .*; give one that can be written"):
        make_folder(tmp_path / where)


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(SupermaskError, match="Permission denied"):
        make_folder(tmp_path / "a")


def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(tmp_path, monkeypatch):
    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(os, "unlink", lambda _: None)
    with pytest.raises(SystemExit):
        write_whole(tmp_path / "file", b"half")
    monkeypatch.undo()
    (tmp_path / ".hidden").touch()
    (tmp_path / "kept.part").touch()
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "kept.part"}


def test_only_one_process_at_a_time_is_in_a_locked_folder(tmp_path):
    imports = "from pathlib import Path; from supermask.files import locked"
    inside = f"{imports}\nwith locked(Path({str(tmp_path)!r})): print('in', flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "in\n"
    waiter = subprocess.Popen([sys.executable, "-c", inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.communicate("\n", timeout=1.5)
    holder.kill()
    holder.communicate()
    assert waiter.communicate(timeout=60)[0] == "in\n"


def test_tensors_that_share_memory_are_stored_apart():
    table = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": table, "b": table, "c": table.T, "d": table[:, 1], "e": torch.nn.Parameter(table)}
    read = safetensors.torch.load(tensor_bytes(tensors))
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


# ---- a folder that one process fills

HOLD = """
import sys
from pathlib import Path
from supermask.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder_of(folder):
    """Return a process that holds a folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_held_by_one_process_which_is_named(tmp_path):
    with holder_of(tmp_path) as process:
        message = rf"is being filled by process {process.pid} on {re.escape(platform.node())}; wait for it"
        with pytest.raises(RunError, match=message), held(tmp_path):
            pass
        process.communicate()
    with held(tmp_path), held(tmp_path):  # whoever holds it may hold it again
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_holds_nothing(tmp_path):
    with holder_of(tmp_path) as process:
        process.kill()
        process.wait()
        assert [path.name for path in tmp_path.iterdir()] == [".held"]
        with held(tmp_path):
            assert (tmp_path / ".held").read_text() == f"process {os.getpid()} on {platform.node()}"
        process.stdin.close()
    assert list(tmp_path.iterdir()) == []


def test_of_many_processes_one_holds_a_folder(tmp_path):
    """Each that comes in writes a file that none may find; those who are refused come again."""
    code = """
import sys, time
from pathlib import Path
from supermask.errors import RunError
from supermask.files import held
folder, done = Path(sys.argv[1]), 0
while done < 20:
    try:
        with held(folder):
            (folder / "mine").touch(exist_ok=False)
            time.sleep(0.001)
            (folder / "mine").unlink()
            done += 1
    except RunError:
        time.sleep(0.001)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
