"""Every README is true: its snippets run, its numbers are those of the results, its links and commands exist."""

import re
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.registry import EXPERIMENTS

ROOT = Path(__file__).parents[1]
FOLDERS = [path for package in ("supermask", "theory", "experiments") for path in (ROOT / package).rglob("README.md")]
READMES = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "README.md", *sorted(FOLDERS)]}
PAGES = {**READMES, **{name: (ROOT / name).read_text() for name in ("CONTRIBUTING.md", "CHANGELOG.md")}}
FIRST = READMES["README.md"]
PROGRAMS = {
    "supermask": import_module("supermask.cli.main"),
    "experiments": import_module("experiments.framework.commands"),
}
OPTIONAL = ("lightning", "transformers", "accelerate", "tensorboard")
"""Packages that only some snippets need, which are left out where they are not installed."""
RECORDS = import_module("experiments.records.command")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text):
    """The words of each command line of our programs, whatever starts it."""
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    words = [shlex.split(line.replace("python -m experiments", "experiments"), comments=True) for line in lines]
    return [line[line.index(name) :] for line in words for name in PROGRAMS if name in line]


def tables(text):
    """The results files that tables are copied from."""
    return re.findall(r"<!-- rows of (\S+) -->", text)


def rows(table):
    """The cells of each row of a Markdown table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("name", [name for name, text in READMES.items() if blocks(text, "python")])
def test_the_python_snippets_run_one_after_the_other(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    missing = [package for package in OPTIONAL if find_spec(package) is None]
    for snippet in blocks(READMES[name], "python"):
        if any(package in snippet.lower() for package in missing):
            continue
        exec(compile(snippet, name, "exec"), names)
    if name == "README.md":
        assert names["outcome"].test.accuracy > 0.8
        assert 8 * names["ticket"].size < names["ticket"].prunable


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in READMES for file in tables(READMES[name])])
def test_every_row_that_is_copied_is_one_of_the_results(name, file):
    table = READMES[name].split(f"<!-- rows of {file} -->")[1].split("<!-- end -->")[0]
    copied = [line for line in table.splitlines() if line.startswith("|")]
    assert len(copied) > 2
    assert set(copied) <= set((ROOT / file).read_text().splitlines())


CLAIMS = rows(FIRST.split("<!-- claims -->")[1].split("<!-- end -->")[0])


@pytest.mark.parametrize(("claim", "measured", "link"), CLAIMS, ids=lambda cell: cell[:30])
def test_every_number_of_a_claim_stands_in_the_rows_that_its_link_names(claim, measured, link):
    """`[text](file "row; row")`: what is measured is from those rows, any other number from somewhere in the file."""
    if measured == "not measured yet":
        assert not NUMBER.findall(claim)
        return
    file, named = re.fullmatch(r'\[.+\]\((\S+) "(.+)"\)', link).groups()
    results = (ROOT / file).read_text()
    cells = {row[0]: " ".join(row) for row in rows(results)}
    assert set(NUMBER.findall(measured)) <= {n for row in named.split("; ") for n in NUMBER.findall(cells[row])}
    assert set(NUMBER.findall(claim)) <= set(NUMBER.findall(results))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings(name):
    prose = re.sub(r"```.*?```", "", PAGES[name], flags=re.DOTALL)
    for link in re.findall(r"\]\(([^) ]+)", prose):
        file, _, heading = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)", target.read_text(), flags=re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", each).lower().replace(" ", "-") for each in headings], link


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if commands(text)])
def test_commands_are_those_of_the_programs(name, monkeypatch, capsys):
    """Every command line shown is parsed to the end, and not run."""
    parsed = []
    for program in (*PROGRAMS.values(), RECORDS):
        monkeypatch.setattr(program, "guarded", lambda _, parse: parsed.append(parse()) or 0)
    for program, *line in commands(PAGES[name]):
        if [program, line[0]] == ["experiments", "gpu"]:  # a parser of its own, which help stops
            with pytest.raises(SystemExit) as end:
                import_module("experiments.__main__").main([*line, "--help"])
            shown = capsys.readouterr().out
            assert end.value.code == 0
            assert not [word for word in line if word.startswith("--") and word not in shown]
            continue
        if [program, line[0]] == ["experiments", "records"]:
            assert RECORDS.records(line[1:]) == 0
            continue
        assert PROGRAMS[program].main(line) == 0
        if program == "experiments" and hasattr(parsed[-1], "name"):
            assert parsed[-1].name in EXPERIMENTS


def test_the_first_page_is_short_and_shows_every_command():
    lines = FIRST.splitlines()
    assert len(lines) <= 170
    assert lines.index("```python") < 24
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", FIRST, flags=re.MULTILINE | re.DOTALL))
    for title in ("Find", "Build", "Judge", "Keep", "Use"):
        (snippet,) = blocks(sections[title], "python")
        assert len(snippet.splitlines()) <= 8, title
    shown = {line[1] for line in commands(FIRST)}
    assert shown == {*PROGRAMS["supermask"].COMMANDS, "construct"}  # which theory brings


def test_prose_keeps_to_120_columns():
    for name, text in READMES.items():
        prose = [line for line in text.splitlines() if not line.startswith(("|", "![", "supermask "))]
        assert not [line for line in prose if len(line) > 120], name


def test_every_dependency_has_its_reason():
    contributing = PAGES["CONTRIBUTING.md"]
    listed = set(re.findall(r"^\| ([a-z, -]+) \| ", contributing.split("| depends on")[1], flags=re.MULTILINE))
    named = {name.strip() for group in listed for name in group.split(",")}
    project = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]")[0]
    assert set(re.findall(r'"([a-z-]+)', project)) <= named
