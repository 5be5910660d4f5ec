"""The README is true: its snippets run, its numbers are those of the results, its files exist."""

import re
import shlex
from pathlib import Path

import pytest

from supermask.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for snippet in blocks("python"):
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["outcome"].test.accuracy > 0.8
    assert 8 * names["ticket"].size < names["ticket"].prunable + 8 * 2500


@pytest.mark.parametrize("file", re.findall(r"<!-- rows of (\S+) -->", README), ids=lambda file: Path(file).stem)
def test_every_number_of_a_table_is_one_of_the_results(file):
    table = README.split(f"<!-- rows of {file} -->")[1].split("<!-- end -->")[0]
    rows = [row for row in table.splitlines() if row.startswith("|")]
    assert len(rows) > 2
    assert set(rows) <= set((ROOT / file).read_text().splitlines())


def test_links_lead_to_files():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_commands_are_those_of_the_program(capsys):
    """Every command line shown is one that parses; `--help` stops it before it runs."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("supermask ")]
    assert {shlex.split(line)[1] for line in lines} == {*COMMANDS, "construct"}  # which theory brings
    for line in lines:
        with pytest.raises(SystemExit) as end:
            main([*shlex.split(line)[1:], "--help"])
        assert end.value.code == 0


def test_the_first_runnable_lines_come_early():
    assert README.splitlines().index("```bash") < 30


def test_every_dependency_has_its_reason():
    listed = set(re.findall(r"^\| ([a-z, -]+) \| ", README.split("| depends on")[1], flags=re.MULTILINE))
    named = {name.strip() for group in listed for name in group.split(",")}
    project = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]")[0]
    assert set(re.findall(r'"([a-z-]+)', project)) <= named
