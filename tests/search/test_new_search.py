"""A search is three files: the one of CONTRIBUTING.md is added to a copy of the package, and everything knows it."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEP = re.compile(r"^\d\. `(?P<file>\S+)`:.*?(?=^\d\. |^`supermask search)", flags=re.DOTALL | re.MULTILINE)
CODE = re.compile(r"^ *```\w+\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)
COMMANDS = """
import json
from pathlib import Path

from supermask.cli import main

quick = "--data synthetic --width 0.1 --epochs 1 --batch-size 100 --device cpu".split()
assert main(["search", "--method", "coarse", "--coarse.grain", "0.02", "--density", "0.4", *quick, "--out", "one"]) == 0
config = json.loads(Path("one/config.json").read_text())
assert config["options"] == {"grain": 0.02}
assert config["search"]["density"] == 0.4
assert "score" not in config["search"], "it has no such option"
result = json.loads(Path("one/result.json").read_text())
assert abs(result["kept"] - 0.4 * result["prunable"]) < 3
assert main(["inspect", "one/network.ticket", "--out", "seen"]) == 0
assert main(["search", "--method", "coarse", "--coarse.grain", "0", *quick, "--out", "bad"]) == 2
compare = ["compare", "--methods", "coarse", "--density", "0.4", "--seeds", "1", "--controls", *quick]
assert main([*compare, "--out", "judged"]) == 0
judged = json.loads(Path("judged/controls.json").read_text())
assert list(judged) == ["coarse, density 0.4"]
sweep = ["sweep", "--methods", "coarse", "--densities", "0.2,0.4", "--seeds", "2", "--coarse.grain", "0.02", *quick]
assert main([*sweep, "--dry-run", "--out", "many"]) == 0
"""


def steps():
    """Return the code of each step by the file that it is about."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("\n## A search\n")[1].split("\n## ")[0]
    found = {step["file"]: CODE.findall(step[0]) for step in STEP.finditer(section)}
    return {file: [textwrap.dedent(code) for code in codes] for file, codes in found.items()}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """Return a copy of the package and of its conformance suite, with the search added as CONTRIBUTING.md says."""
    folder = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("*.pyc")  # and not the machine code beside them, which takes long to make again
    shutil.copytree(ROOT / "supermask", folder / "supermask", ignore=ignore)
    shutil.copytree(ROOT / "tests/search", folder / "tests/search", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (rule, (code,)), (registry, (added,)), (test, (tested,)) = steps().items()
    (folder / rule).write_text(code)
    (folder / test).write_text(tested)
    text = (folder / registry).read_text()
    imported, line = (each.removeprefix("+") for each in added.splitlines(keepends=True))
    for place, new in (("\nRULES: ", imported), ("    StructuredRule,\n", line)):
        assert text.count(place) == 1
        text = text.replace(place, new + place)
    (folder / registry).write_text(text)
    return folder


def ran(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_it_takes_three_files():
    assert list(steps()) == [
        "supermask/search/coarse.py",
        "supermask/search/registry.py",
        "tests/search/test_coarse.py",
    ]


def test_the_conformance_suite_and_its_own_test_hold_it(copied):
    code, shown = ran(
        copied, "-m", "pytest", "tests/search/test_coarse.py", "tests/search/test_conformance.py", "-k", "coarse", "-rA"
    )
    assert code == 0, shown
    passed = re.findall(r"PASSED \S+::(\w+)", shown)
    assert "test_among_equal_rounded_scores_the_first_is_kept" in passed
    assert {"test_controls_take_its_tickets", "test_the_seed_says_everything"} <= {*passed}


def test_the_commands_run_it(copied):
    code, shown = ran(copied, "-c", COMMANDS)
    assert code == 0, shown
