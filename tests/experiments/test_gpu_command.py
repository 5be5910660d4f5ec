"""The command that verifies GPU code: its order, its limits, its table, and what it can do without."""

import json
import subprocess
import sys

import pytest

from experiments.gpu import command
from experiments.gpu.bench import Bench, Finding, read_findings
from experiments.gpu.stages import STAGES, Stage

BARE = """
import sys
for name in ("tyro", "pulp", "highspy", "submitit", "docstring_parser", "typeguard"):
    sys.modules[name] = None  # as on a machine that lacks them
import torch
from experiments.__main__ import main
from experiments.gpu.stages import STAGES
for stage in STAGES.values():
    assert callable(stage.run), stage.key
raise SystemExit(main(["gpu", "--only", "S17"]))
"""


def test_no_stage_needs_what_a_bare_machine_lacks():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert "There is no stage 'S17'; the stages are S0, S1" in done.stderr


def stages(monkeypatch, **notes):
    """Stages that only note something, or fail, in place of the real ones."""
    ran = []

    def run_one(stage, path, seconds, tiny):
        ran.append((stage.key, round(seconds), tiny))
        note = notes[stage.key]
        if isinstance(note, str):
            return note
        Bench(stage.key, path, seconds).note("checked", 0, right=note)
        return None

    monkeypatch.setattr(command, "_run_one", run_one)
    monkeypatch.setattr(
        command, "STAGES", {key: Stage(key, f"stage {key}", "", 40, 10, needed=key == "S1") for key in notes}
    )
    return ran


def run(tmp_path, *arguments):
    status = command.gpu(["--out", str(tmp_path), *arguments])
    return status, read_findings(tmp_path / "findings.jsonl")


def test_stages_run_in_order_within_their_limits(tmp_path, monkeypatch, capsys):
    ran = stages(monkeypatch, S1=True, S2=True, S3=True)
    status, findings = run(tmp_path, "--seconds", "30", "--only", "S3,S1", "--tiny")
    assert status == 0
    assert ran == [("S1", 30, True), ("S3", 30, True)]
    assert [finding.stage for finding in findings] == ["S1", "S3"]
    assert "stage S3: 1 of 1 checks hold" in capsys.readouterr().out
    assert (tmp_path / "gpu.md").read_text().startswith("# What a GPU shows: no GPU")


def test_a_stage_is_not_begun_where_it_could_not_end(tmp_path, monkeypatch):
    ran = stages(monkeypatch, S2=True)
    status, findings = run(tmp_path, "--seconds", "9")
    assert status == 0
    assert not ran
    assert findings[0].name == "S2 stage S2: not begun"


@pytest.mark.parametrize("wrong", [False, "exit 1: it broke"])
def test_nothing_is_measured_once_a_mask_was_wrong(tmp_path, monkeypatch, wrong):
    ran = stages(monkeypatch, S1=wrong, S4=True)
    status, findings = run(tmp_path)
    assert status == 1
    assert [key for key, *_ in ran] == ["S1"]
    assert findings[-1].name == "the rest"


def test_another_stage_that_fails_is_named_and_the_rest_goes_on(tmp_path, monkeypatch):
    stages(monkeypatch, S2="exit 1: it broke", S4=True)
    status, findings = run(tmp_path)
    assert status == 0
    assert [(finding.name, finding.value) for finding in findings if finding.right is False] == [
        ("S2 stage S2", "exit 1: it broke")
    ]


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "findings.jsonl"
    bench = Bench("S4", path, 1.0)
    bench.note("first", 1.5, "ms", n=3)
    with path.open("a") as file:
        file.write(json.dumps({"stage": "S4"})[:-1])
    assert read_findings(path) == [Finding("S4", "first", 1.5, "ms", None, {"n": 3})]


def test_the_table_lists_what_failed_and_counts_what_held():
    findings = [Finding("S1", f"case {number}", 0, right=True) for number in range(5)]
    assert command.as_table(findings) == "S1 selection against a stable sort: 5 of 5 checks hold"
    table = command.as_table([*findings, Finding("S1", "case 9", 3, "wrong entries", False)])
    assert "5 of 6 checks hold" in table
    assert "! case 9" in table


def test_every_stage_is_a_function_of_this_package():
    assert list(STAGES) == sorted(STAGES, key=lambda key: int(key[1:]))
    assert all(stage.least <= stage.seconds for stage in STAGES.values())
