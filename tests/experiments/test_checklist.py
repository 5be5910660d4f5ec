"""The checklist and the page of advice: what they name exists, and their figures are those of the results."""

import re

import pytest

from experiments.framework.report import RESULTS
from experiments.registry import EXPERIMENTS
from supermask.cli.main import COMMANDS
from supermask.runs import METHODS
from supermask.runs.protocols import PROTOCOLS

FOLDER = RESULTS.parent
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split(" | ")]
    for line in (FOLDER / "CHECKLIST.md").read_text().splitlines()
    if re.match(r"\| \d", line)
]
LINK = re.compile(r"\[(\w+)\]\(results/\w+\.md\)")
FIGURE = re.compile(r"(?<![\w.=-])[+-]?\d[\d,]*(?:\.\d+)?(?: ± \d[\d.]*)?(?: \(-?[\d.]+ to -?[\d.]+\))?")


def quoted(text):
    """Yield the figures with a decimal point or an interval after each link to a results file, with its name."""
    parts = LINK.split(text)
    for name, said in zip(parts[1::2], parts[2::2], strict=True):
        for figure in FIGURE.findall(said):
            if "." in figure or "," in figure.strip(","):
                yield name, figure.strip(",")


def missing(text):
    """Return the figures that do not stand in the file that the text links before them."""
    return [
        (name, figure)
        for name, figure in quoted(text)
        if figure not in " ".join((RESULTS / f"{name}.md").read_text().split())
    ]


def test_every_statement_has_its_row_and_at_most_five_are_no():
    assert [int(row[0]) for row in ROWS] == list(range(1, 123))
    assert all(len(row) == 5 and all(row) for row in ROWS)
    assert sum(row[2] == "NO" for row in ROWS) <= 5
    assert all(len(row[4]) > 20 for row in ROWS if row[2] == "NO")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_command_names_what_there_is(row):
    command = row[2].strip("`").split()
    if command == ["NO"]:
        return
    if command[0] == "run":
        assert command[1] in EXPERIMENTS
        return
    assert command[0] == "supermask"
    assert command[1] in COMMANDS
    options = dict(zip(command[2::2], command[3::2], strict=False))
    assert set(options.get("--methods", "imp").split(",")) <= set(METHODS)
    assert options.get("--protocol", "conv2") in PROTOCOLS


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_measured_figures_are_those_of_the_results(row):
    assert not missing(row[4])
    for name in LINK.findall(row[4]):
        assert name in EXPERIMENTS


def test_a_figure_that_no_result_has_is_found():
    assert missing("[lottery_tickets](results/lottery_tickets.md): 98.27 ± 0.11 %") == [
        ("lottery_tickets", "98.27 ± 0.11")
    ]
    assert not missing("[lottery_tickets](results/lottery_tickets.md): 98.26 ± 0.11 %")


def test_the_lines_of_the_advice_are_those_of_the_results():
    text = " ".join((FOLDER / "ADVICE.md").read_text().split())
    assert len(LINK.findall(text)) > 9
    assert not missing(text)
