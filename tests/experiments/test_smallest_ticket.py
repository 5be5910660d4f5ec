"""The smallest accurate ticket: its table, its plot and the file that is kept beside them."""

import os
from dataclasses import replace

import pytest
import torch

from experiments.framework.report import RESULTS, read_results
from experiments.smallest_ticket import BAR, EXPERIMENT, SIZES
from supermask import Ticket
from supermask.cli import main
from supermask.runs import JobResult
from supermask.runs.ticket_model import built_from
from supermask.training.result import Scored

TICKET = RESULTS / "mnist.ticket"


def scored(accuracy):
    return Scored(correct=0, total=10_000, loss=0.1, accuracy=accuracy)


def made_up(config=None):
    return JobResult(
        config=config or {},
        validation=scored(0.9945),
        test=scored(0.993),
        best_step=1,
        steps=1,
        seconds=3.2,
        kept=20,
        prunable=100,
        bytes=5_800,
    )


def test_a_row_says_the_bytes_both_errors_and_the_weights():
    result = made_up()
    other = replace(result, bytes=5_900, test=scored(0.994), seconds=4.2)
    assert EXPERIMENT.table.row([result, other]) == ["5,800, 5,900", "0.55, 0.55 %", "0.70, 0.60 %", "100", "20", "4"]


def test_every_size_has_a_row_of_its_own_and_one_recipe():
    jobs = [group.tasks[0].job for group in EXPERIMENT.groups]
    assert [(job.width, job.search.density) for job in jobs] == list(SIZES)
    assert len({job.recipe for job in jobs}) == len({job.model for job in jobs}) == 1
    assert not jobs[0].recipe.flips  # a mirrored digit is another digit, or none


def test_the_plot_draws_what_is_there(tmp_path):
    config = {"width": 1.5, "search": {"density": 0.2}}
    result = made_up(config=config)
    EXPERIMENT.plot({"width 1.5, density 0.2": [result]}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_ticket_that_is_kept_is_the_smallest_within_the_bar():
    ticket = Ticket.load(TICKET)
    results = [result for row in read_results(EXPERIMENT).values() for result in row]
    good = [result for result in results if result.validation.accuracy >= 1 - BAR]
    result = min(good, key=lambda result: result.bytes)
    assert TICKET.stat().st_size == result.bytes <= 10_000
    made_of, job = ticket.provenance["model"], result.config
    assert (made_of["name"], made_of["width"], ticket.seed) == (job["model"], job["width"], job["seed"])
    assert (ticket.kept, ticket.prunable) == (result.kept, result.prunable)
    assert ticket.provenance["metrics"]["test_accuracy"] == result.test.accuracy >= 1 - 0.0074
    assert not ticket.learned


def test_the_ticket_that_is_kept_is_a_network_and_is_saved_as_it_is(tmp_path):
    ticket = Ticket.load(TICKET)
    network = ticket.apply(built_from(ticket, TICKET)).eval()
    assert network(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    ticket.save(tmp_path / "again.ticket")
    assert (tmp_path / "again.ticket").read_bytes() == TICKET.read_bytes()


@pytest.mark.data
@pytest.mark.skipif("SUPERMASK_DATA" not in os.environ, reason="SUPERMASK_DATA is not set")
def test_the_command_measures_the_accuracy_that_the_results_say(tmp_path, capsys):
    command = ["evaluate", str(TICKET), "--device", "cpu", "--threads", "1"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    accuracy = Ticket.load(TICKET).provenance["metrics"]["test_accuracy"]
    assert f"{accuracy:.2%}" in said
