"""What results of runs, `evaluate --part training` and `inspect` say of the error on examples to come."""

import json
import os
from dataclasses import replace

import pytest
import torch

from supermask import Ticket, data, models
from supermask.cli import main
from supermask.judge import generalization_bound, label_code_length
from supermask.runs import Job, JobResult, SearchOptions, run
from supermask.runs.proof import proof_of
from supermask.training import Recipe

JOB = Job(data="digits", recipe=Recipe(iterations=20, batch_size=64), search=SearchOptions(density=0.3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("proof") / "run"
    run(JOB, path, progress=False)
    return path


def by_hand(ticket, data_set):
    """Return error, loss and number of all examples outside the test set."""
    network = ticket.apply(models.build("lenet_300_100", input_shape=(1, 8, 8))).eval()
    parts = (data_set.train, data_set.validation)
    images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
    with torch.no_grad():
        logits = network(data_set.normalize(images))
    error = float((logits.argmax(1) != labels).double().mean())
    return error, float(torch.nn.functional.cross_entropy(logits, labels)), len(labels)


def test_the_result_of_a_search_holds_what_its_file_proves(folder):
    ticket, result = (
        Ticket.load(folder / "network.ticket"),
        JobResult.from_json(json.loads((folder / "result.json").read_text())),
    )
    error, loss, count = by_hand(ticket, data.load("digits"))
    assert result.proof.bound == generalization_bound(ticket, train_error=error, examples=count)
    assert result.proof.labels.label_bits == pytest.approx(
        label_code_length(ticket, train_loss=loss, examples=count).label_bits, rel=1e-5
    )
    assert 1 - result.test.accuracy <= result.proof.bound.error
    assert count == 1_437


def test_inspect_shows_the_proof_of_the_run_beside_the_file(folder, capsys):
    assert main(["inspect", str(folder / "network.ticket")]) == 0
    said = capsys.readouterr().out
    proof = JobResult.from_json(json.loads((folder / "result.json").read_text())).proof
    assert proof.text() in said
    assert all(line in said for line in proof.bound.conditions)


def test_evaluate_on_the_training_part_proves_the_same(folder, tmp_path, capsys):
    line = ["evaluate", str(folder / "network.ticket"), "--part", "training", "--device", "cpu", "--seed", "5"]
    assert main([*line, "--out", str(tmp_path)]) == 0
    proof = JobResult.from_json(json.loads((folder / "result.json").read_text())).proof
    assert proof.bound.text() in capsys.readouterr().out
    said = json.loads((tmp_path / "evaluation.json").read_text())
    assert (said["part"], said["total"]) == ("training", 1_437)  # whatever part of it the seed draws for validation
    assert said["proof"]["bound"]["error"] == proof.bound.error


def test_another_file_has_no_proof_but_by_options(folder, tmp_path, capsys):
    ticket = Ticket.load(folder / "network.ticket")
    (tmp_path / "result.json").write_bytes((folder / "result.json").read_bytes())
    replace(ticket, provenance={**ticket.provenance, "x": "y" * 99}).save(tmp_path / "network.ticket")
    path = str(tmp_path / "network.ticket")
    assert main(["inspect", path]) == 0
    assert "to come" not in capsys.readouterr().out
    assert main(["inspect", path, "--train-error", "0.01", "--examples", "60000"]) == 0
    found = generalization_bound(Ticket.load(path), train_error=0.01, examples=60_000)
    assert found.text() in capsys.readouterr().out
    assert main(["inspect", path, "--examples", "60000"]) == 2
    assert "belong together" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[1]", "{", '{"config": 3}', '{"config": {"method": "edge_popup"}, "bytes": 1}'])
def test_a_strange_result_beside_the_file_is_passed_over(folder, tmp_path, capsys, text):
    (tmp_path / "network.ticket").write_bytes((folder / "network.ticket").read_bytes())
    (tmp_path / "result.json").write_text(text)
    assert main(["inspect", str(tmp_path / "network.ticket")]) == 0
    assert "to come" not in capsys.readouterr().out


def test_nothing_is_proved_of_weak_tickets_drawn_labels_and_given_weights(folder):
    ticket, data_set = Ticket.load(folder / "network.ticket"), data.load("digits")
    network = models.build("lenet_300_100", input_shape=(1, 8, 8))
    drawn = replace(data_set, draw=lambda images, labels, generator: (images, labels))
    cpu = torch.device("cpu")
    assert proof_of(replace(ticket, provenance={"trained": True}), network, data_set, cpu) is None
    assert proof_of(ticket, network, drawn, cpu) is None
    assert proof_of(ticket, network, data_set, cpu) is not None


def test_a_trained_network_has_no_proof(tmp_path):
    assert run(replace(JOB, method="dense"), tmp_path / "run", progress=False).proof is None


@pytest.mark.data
@pytest.mark.skipif("SUPERMASK_DATA" not in os.environ, reason="SUPERMASK_DATA is not set")
def test_what_the_ticket_that_is_kept_proves(tmp_path, capsys):
    """Its README says these numbers."""
    line = ["evaluate", "experiments/results/mnist.ticket", "--part", "training", "--device", "cpu", "--threads", "1"]
    assert main([*line, "--out", str(tmp_path)]) == 0
    proof = json.loads((tmp_path / "evaluation.json").read_text())["proof"]
    assert proof["bound"]["error"] == pytest.approx(0.4163, abs=2e-4)
    assert proof["labels"]["file_bits"] + proof["labels"]["label_bits"] == pytest.approx(45_976, abs=20)
