"""S2: the tests under the marker `gpu`."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from experiments.gpu.bench import Bench
from experiments.gpu.environment import WHEELS

_ROOT = Path(__file__).parents[2]


def run(bench: Bench) -> None:
    """Run the files that hold such tests; without a GPU only collect them."""
    missing = [name for name in WHEELS if find_spec(name) is None]
    if missing:
        bench.note("packages to bring as wheels", ", ".join(missing))
    folder = _ROOT / "tests"
    files = sorted(path for path in folder.glob("**/test_*.py") if "mark.gpu" in path.read_text())
    if not files:
        bench.note("tests", "none found; run from a checkout")
        return
    report = bench.path.with_name("gpu_tests.xml")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short", "-rfE"]
    if bench.device.type != "cuda":
        command.append("--collect-only")
    elif find_spec("xdist"):
        command += ["-p", "xdist", "-n", "4"]
    # a file that cannot be imported for want of a package must not hide the others
    command += ["--continue-on-collection-errors", f"--junit-xml={report}", *map(str, files)]
    # plugins of other projects on the machine may warn, and a warning is an error here
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=max(5.0, bench.left() - 2)
        )
    except subprocess.TimeoutExpired:
        bench.note("tests", "stopped at the time limit", right=False)
        return
    log = bench.path.with_name("gpu_tests.log")
    log.write_text(done.stdout + done.stderr)
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            bench.note(line[:200], "failed", right=False)
    # exit 2 and 5: files that a machine without a GPU skips as a whole, and nothing collected
    right = done.returncode in ((0,) if bench.device.type == "cuda" else (0, 2, 5))
    bench.note("tests", _summary(report) or f"exit {done.returncode}", right=right)


def _summary(report: Path) -> str:
    """Return the counts of pytest's report."""
    if not report.exists():
        return ""
    counts = next(ElementTree.parse(report).getroot().iter("testsuite")).attrib
    return ", ".join(f"{counts[what]} {what}" for what in ("tests", "failures", "errors", "skipped"))
