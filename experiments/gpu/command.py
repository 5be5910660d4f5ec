"""The command `python -m experiments gpu`: stage after stage, each with its own limit, and a table at the end."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.gpu.bench import Bench, Finding, read_findings
from experiments.gpu.plot import plot_ratios
from experiments.gpu.stages import STAGES, Stage
from supermask.cli.main import guarded
from supermask.errors import SupermaskError
from supermask.files import make_folder
from supermask.shown import quoted

_WIDTH = 118  # columns of a usual terminal
MOST_SECONDS = 86_400
_STARTING = 15.0  # seconds that a process may take to import torch, on top of its stage's own time


def gpu(arguments: Sequence[str]) -> int:
    """Run the stages; return 0 unless one that all others rest on went wrong, and 2 for a bad request."""
    statuses: list[int] = []
    wrong = guarded("experiments", lambda: partial(_carry_out, _parser().parse_args(arguments), statuses))
    return wrong or statuses[0]


def _carry_out(given: argparse.Namespace, statuses: list[int]) -> None:
    unknown = [key for key in given.only if key not in STAGES]
    if unknown:
        raise SupermaskError(f"There is no stage {quoted(', '.join(unknown))}; the stages are {', '.join(STAGES)}.")
    if not 0 < given.seconds <= MOST_SECONDS:
        raise SupermaskError(f"--seconds {given.seconds:g} is out of range; give up to {MOST_SECONDS:,}, a day.")
    make_folder(given.out)
    path = given.out / "findings.jsonl"
    path.unlink(missing_ok=True)
    chosen = [stage for stage in STAGES.values() if not given.only or stage.key in given.only]
    status = _run_all(chosen, path, given.seconds, given.tiny)
    findings = read_findings(path)
    (given.out / "gpu.md").write_text(as_markdown(findings))
    plot_ratios(findings, given.out / "gpu.png")
    print(as_table(findings))
    statuses.append(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments gpu",
        description="Check and measure all GPU code on this machine; without a GPU, use --tiny.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=540.0, help="time for everything, in seconds")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the findings")
    parser.add_argument(
        "--only", type=lambda keys: keys.split(","), default=[], help="stages, e.g. S3,S4; by default all"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on a CPU in Triton's interpreter")
    return parser


def _run_all(stages: Sequence[Stage], path: Path, seconds: float, tiny: bool) -> int:
    end = time.monotonic() + seconds
    for place, stage in enumerate(stages):
        left = end - time.monotonic()
        command = Bench("command", path, left)
        if left < stage.least:
            command.note(f"{stage.key} {stage.title}: not begun", f"{left:.0f} s left")
            continue
        print(f"[{place + 1}/{len(stages)}] {stage.key} {stage.title} ({left:.0f} s left)", file=sys.stderr, flush=True)
        failed = _run_one(stage, path, min(stage.seconds, left), tiny)
        if failed:
            command.note(f"{stage.key} {stage.title}", failed, right=False)
        if stage.needed and (failed or _wrong(path, stage)):
            command.note("the rest", f"not begun, because {stage.key} went wrong")
            return 1
    return 0


def _run_one(stage: Stage, path: Path, seconds: float, tiny: bool) -> str | None:
    """Run a stage in a process; return what went wrong with it."""
    command = [sys.executable, "-m", "experiments.gpu", stage.key, str(path), "--seconds", str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path]).strip(os.pathsep)}
    if tiny:
        command.append("--tiny")
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = path.with_name(f"{stage.key}.log")
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            status = process.wait(seconds + _STARTING)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds + _STARTING:.0f} s"
        finally:
            process.kill()
    return None if status == 0 else f"exit {status}: {_last_line(log)}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"


def _wrong(path: Path, stage: Stage) -> bool:
    return any(finding.right is False for finding in read_findings(path) if finding.stage == stage.key)


def as_table(findings: Sequence[Finding]) -> str:
    """Return the findings as lines that fit a terminal; checks that all held are counted, not listed."""
    lines: list[str] = []
    for stage in dict.fromkeys(finding.stage for finding in findings):
        own = [finding for finding in findings if finding.stage == stage]
        checks = [finding for finding in own if finding.right is not None]
        held = sum(bool(finding.right) for finding in checks)
        title = STAGES[stage].title if stage in STAGES else ""
        lines.append(f"{stage} {title}" + (f": {held} of {len(checks)} checks hold" if checks else ""))
        quiet = stage == "S1" and held == len(checks)
        lines += [_line(finding) for finding in own if not (quiet and finding.right)]
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    name = finding.name[: _WIDTH - 46]
    return f"  {_MARKS[finding.right]} {name:<{_WIDTH - 46}} {_shown(finding)}"[: 2 * _WIDTH]


_MARKS = {True: "+", False: "!", None: " "}


def _shown(finding: Finding) -> str:
    """Return the value with four digits, and its unit."""
    value = f"{finding.value:.4g}" if isinstance(finding.value, float) else str(finding.value)
    return f"{value} {finding.unit}".strip()


def as_markdown(findings: Sequence[Finding]) -> str:
    """Return the findings as a document with a table for each stage; a check that failed has a mark."""
    known = {finding.name: str(finding.value) for finding in findings if finding.stage == "S0"}
    card, commit = known.get("card", "no GPU"), known.get("commit", "unknown")
    parts = [
        f"# What a GPU shows: {card}",
        f"Written by `python -m experiments gpu` at commit {commit}, with PyTorch {known.get('torch', '-')}. Ratios are"
        " medians over rounds in which both steps were timed; + is a check that held, ! one that did not.",
    ]
    for stage in dict.fromkeys(finding.stage for finding in findings):
        title = STAGES[stage].title if stage in STAGES else "the command"
        rows = [f"| {one.name} | {_shown(one)} | {_MARKS[one.right]} |" for one in findings if one.stage == stage]
        parts.append("\n".join([f"## {stage} {title}\n", "| what | value | |", "| --- | ---: | --- |", *rows]))
    return "\n\n".join(parts) + "\n"
