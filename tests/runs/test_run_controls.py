"""Runs of a ticket and its controls: what is measured, what is kept, what is not done twice."""

import hashlib
import json
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from supermask import RunError, SupermaskError, Ticket, TicketError, models
from supermask.baselines.dense import Dense
from supermask.baselines.sparse import Sparse
from supermask.data import load
from supermask.judge import CONTROLS, judge
from supermask.judge.result import ControlResult
from supermask.runs import Job, SearchOptions, run
from supermask.runs import run_controls as module
from supermask.runs.run_controls import run_controls
from supermask.training import Recipe, Stopped, losses, train

RECIPE = Recipe(epochs=2, batch_size=100)
JOB = Job(data="synthetic", width=0.1, seed=3, recipe=RECIPE, search=SearchOptions(density=0.2))
FEW = ["shuffled_in_layers"]
MNIST = {"name": "lenet_300_100", "input_shape": [1, 28, 28], "classes": 10, "width": 0.1}


@pytest.fixture(scope="module")
def strong(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strong")
    return folder / "network.ticket", run(replace(JOB, recipe=replace(RECIPE, epochs=6)), folder)


@pytest.fixture(scope="module")
def whole(strong, tmp_path_factory):
    """Return all results of the strong ticket, and their folder."""
    out = tmp_path_factory.mktemp("controls")
    return run_controls(strong[0], out=out, recipe=RECIPE, seed=1), out


def build(width=0.1):
    return models.build("lenet_300_100", input_shape=(1, 8, 8), width=width)


def test_every_control_has_a_result_and_a_folder(whole):
    results, out = whole
    assert list(results) == ["ticket", *CONTROLS, "dense", "small_dense"]
    assert {path.name for path in out.iterdir()} == {f"{name}-seed1" for name in results}
    for name, result in results.items():
        assert result == ControlResult.from_json(json.loads((out / f"{name}-seed1/result.json").read_text()))
        assert result.config["control"] == name
        assert result.test.total == result.untrained.test.total == 200
        assert (result.strong, result.steps, result.history[-1].step) == (True, 18, 18)
        assert (result.moved is not None) == (name in CONTROLS)
        assert (result.kept is not None) == (name not in ("dense", "small_dense"))


def test_the_ticket_untrained_is_as_accurate_as_its_search_said(strong, whole):
    untrained = whole[0]["ticket"].untrained
    assert untrained.test.correct == strong[1].test.correct
    assert untrained.validation.correct == strong[1].validation.correct  # the same examples were held out


def test_the_runs_are_those_of_the_controls(strong, whole):
    """Each folder holds the ticket that the control makes; the results say how it differs."""
    results, out = whole
    ticket, scores = Ticket.load(strong[0]), module.TicketSource.read(strong[0], None)._read_scores()
    for name, control in CONTROLS.items():
        made, kept = control(ticket, seed=1, scores=scores), Ticket.load(out / f"{name}-seed1/network.ticket")
        assert (made.seed, made.digest) == (kept.seed, kept.digest)
        assert all(torch.equal(mask, kept.masks[layer]) for layer, mask in made.masks.items())
        assert sum(results[name].moved.values()) > 0 or name == "reinitialised"
        assert results[name].reweighted == (made.digest != ticket.digest)
        assert results[name].kept == ticket.kept == made.kept
        assert kept.provenance["control"] == {"name": name, "seed": 1}
        assert "metrics" not in kept.provenance  # those are of the ticket that it was made of


def test_the_kept_weights_alone_are_trained(strong, monkeypatch, tmp_path):
    """Trained here by hand, from the same start, with the same batches."""
    seen = []
    monkeypatch.setattr(module, "Sparse", lambda *given: seen.append(Sparse(*given)) or seen[-1])
    run_controls(strong[0], out=tmp_path, recipe=RECIPE, controls=[], seed=1)
    untrained, trained = (network.model.state_dict() for network in seen[:2])
    ticket = Ticket.load(strong[0])
    start = ticket.apply(build()).state_dict()
    assert all(torch.equal(tensor, untrained[name]) for name, tensor in start.items())
    for name, mask in ticket.masks.items():
        assert not trained[name][~mask].any()
        assert not torch.equal(trained[name][mask], start[name][mask])


def test_parameters_are_those_that_are_trained(strong, whole):
    results, ticket = whole[0], Ticket.load(strong[0])
    biases = 30 + 10 + 10
    assert results["ticket"].parameters == ticket.kept + biases == results["random_erk"].parameters
    assert results["dense"].parameters == ticket.prunable + biases
    small = results["small_dense"]
    assert small.parameters == sum(parameter.numel() for parameter in build(small.width).parameters())
    assert abs(small.parameters - results["ticket"].parameters) <= (64 + 10 + 2) / 2  # half a unit of the first


def test_the_dense_network_starts_where_the_ticket_does(strong, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(module, "Dense", lambda *a, **b: seen.append(Dense(*a, **b)) or seen[-1])
    run_controls(strong[0], out=tmp_path, recipe=replace(RECIPE, epochs=0), controls=[])
    ticket = Ticket.load(strong[0])
    weights = {name: weight.grow(3, name) / weight.scale for name, weight in ticket.weights.items()}
    for name, weight in weights.items():
        torch.testing.assert_close(dict(seen[0].model.named_parameters())[name].detach(), weight)


def test_a_finished_control_is_not_repeated(strong, whole, monkeypatch):
    results, out = whole
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("trained again"))
    assert run_controls(strong[0], out=out, recipe=RECIPE, seed=1) == results
    assert list(run_controls(strong[0], out=out, recipe=RECIPE, seed=1, controls=FEW)) == [
        "ticket",
        *FEW,
        "dense",
        "small_dense",
    ]


def test_what_was_stopped_goes_on_to_the_same_end(strong, whole, monkeypatch, tmp_path):
    """Ctrl-C in the fifth step of the shuffled network's training, after the ticket's 18."""
    steps, step = [], Sparse.step

    def interrupted(self):
        step(self)
        steps.append(self.steps)
        if len(steps) == 18 + 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Sparse, "step", interrupted)
    options = {"out": tmp_path, "recipe": RECIPE, "seed": 1, "controls": FEW}
    with pytest.raises(Stopped, match=r"shuffled_in_layers stopped after step 5 of 18; the same call goes on"):
        run_controls(strong[0], **options)
    assert (tmp_path / "ticket-seed1/result.json").exists()
    steps.clear()
    again = run_controls(strong[0], **options)
    assert steps == list(range(6, 19))
    for name in ("ticket", *FEW, "dense"):
        for field in ("history", "test", "untrained"):
            assert getattr(again[name], field) == getattr(whole[0][name], field)


def test_another_seed_has_folders_of_its_own_and_both_are_judged(strong, whole):
    results, out = whole
    other = run_controls(strong[0], out=out, recipe=RECIPE, seed=2)
    assert len(list(out.iterdir())) == 2 * len(results)
    assert other["ticket"].untrained == results["ticket"].untrained
    assert other["ticket"].history != results["ticket"].history  # the batches come in another order
    judged = judge([results, other])
    assert {verdict.claim for verdict in judged.verdicts} >= {"matching", "winning", "passes the sanity checks"}
    assert len(judged.table().splitlines()) == 2 + len(results)


def test_another_recipe_scores_or_ticket_is_another_run(strong, whole, tmp_path):
    with pytest.raises(RunError, match=r"recipe\.epochs is 2 there and 3 now"):
        run_controls(strong[0], out=whole[1], recipe=replace(RECIPE, epochs=3), seed=1)
    config = json.loads((whole[1] / "inverted-seed1/config.json").read_text())
    for key, name in (("ticket", "network.ticket"), ("scores", "scores.safetensors")):
        assert config[key] == hashlib.sha256((strong[0].parent / name).read_bytes()).hexdigest()
    assert "scores" not in json.loads((whole[1] / "random_erk-seed1/config.json").read_text())


def test_without_scores_the_inversion_is_left_out_unless_it_is_asked_for(strong, tmp_path):
    ticket = tmp_path / "network.ticket"
    ticket.write_bytes(strong[0].read_bytes())
    options = {"out": tmp_path / "runs", "recipe": replace(RECIPE, epochs=0)}
    assert "inverted" not in run_controls(ticket, **options)
    with pytest.raises(TicketError, match="inverted needs the scores"):
        run_controls(ticket, **options, controls=["inverted"])
    scores = strong[0].parent / "scores.safetensors"
    assert "inverted" in run_controls(ticket, **options, scores=scores, controls=["inverted"])


def test_a_weak_ticket_is_trained_as_the_method_that_found_it_did(tmp_path):
    """And the dense network as the dense method; they claim nothing untrained."""
    job = replace(JOB, method="magnitude_init")
    found, dense = run(job, tmp_path), run(replace(job, method="dense"), tmp_path / "dense")
    options = {"out": tmp_path / "runs", "recipe": RECIPE, "seed": JOB.seed, "controls": ["inverted"]}
    results = run_controls(tmp_path / "network.ticket", **options)
    assert results["ticket"].history == found.history
    assert results["dense"].history == dense.history
    assert (results["ticket"].test, results["dense"].test) == (found.test, dense.test)
    assert not any(result.strong for result in results.values())
    assert {verdict.state for verdict in judge([results]).verdicts} == {"trained"}


def test_a_network_with_batch_norm_is_measured_with_statistics_of_its_own(tmp_path):
    """The stored statistics are those of the ticket; under a shuffled mask they would be anything."""
    job = Job(model="resnet20", data="synthetic", width=0.1, recipe=Recipe(epochs=0, batch_size=250))
    result = run(job, tmp_path)
    results = run_controls(tmp_path / "network.ticket", out=tmp_path / "runs", recipe=job.recipe, controls=FEW)
    assert results["ticket"].untrained.test.loss == pytest.approx(result.test.loss, rel=1e-5)
    kept = Ticket.load(tmp_path / "runs/shuffled_in_layers-seed0/network.ticket").apply(
        models.build("resnet20", input_shape=(1, 8, 8), width=0.1)
    )
    data = load("synthetic")
    test = data.test()
    with torch.no_grad():
        stale = torch.nn.functional.cross_entropy(kept.eval()(data.normalize(test.images)), test.labels)
    assert results[FEW[0]].untrained.test.loss != pytest.approx(float(stale), rel=1e-3)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({}, {"controls": ["shuffle"]}, "Unknown control 'shuffle'; known are reinitialised"),
        ({}, {"data": "digits", "validation": 10**6}, "validation"),
        ({"data": None}, {}, "does not say which data set it was found on"),
        ({"model": None}, {}, "does not say which model it was made from"),
        (
            {"model": MNIST},
            {},
            r"takes images of \[1, 28, 28\] in 10 classes; synthetic has images of \[1, 8",
        ),
    ],
)
def test_what_cannot_be_run_is_one_sentence(strong, tmp_path, change, options, says):
    ticket = Ticket.load(strong[0])
    replace(ticket, provenance={**ticket.provenance, **change}).save(tmp_path / "a.ticket")
    with pytest.raises(SupermaskError, match=says) as caught:
        run_controls(tmp_path / "a.ticket", out=tmp_path / "runs", recipe=RECIPE, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_damaged_scores_are_refused(strong, tmp_path):
    (tmp_path / "scores").write_bytes(b"nothing")
    with pytest.raises(TicketError, match="Cannot read the scores"):
        run_controls(strong[0], out=tmp_path, recipe=RECIPE, scores=tmp_path / "scores", controls=["inverted"])


MARGIN = "torch.nn:MultiMarginLoss"


@pytest.mark.parametrize(("loss", "given"), [(MARGIN, MARGIN), ("mse", None), (None, MARGIN)])
def test_controls_are_trained_by_the_loss_of_the_ticket_or_by_the_one_that_is_named(
    strong, tmp_path, loss, given, monkeypatch
):
    monkeypatch.setattr(losses, "LOSSES", {**losses.LOSSES, "mse": squared})  # of labels, which the real one has not
    ticket = Ticket.load(strong[0])
    said = {} if loss is None else {"loss": loss}
    replace(ticket, provenance={**ticket.provenance, **said}).save(tmp_path / "network.ticket")
    asked = {"out": tmp_path / "out", "recipe": RECIPE, "controls": [], "seed": 1, "loss": given}
    found = run_controls(tmp_path / "network.ticket", **asked)["ticket"]
    wanted = squared if loss == "mse" else nn.MultiMarginLoss()
    by_hand = Sparse(build(), ticket)
    outcome = train(by_hand, load("synthetic", seed=3), RECIPE, seed=1, loss=wanted, progress=False)
    assert (found.test.loss, found.test.correct) == (outcome.test.loss, outcome.test.correct)
    assert found.config["loss"] == (given or loss)
    if loss == MARGIN:  # a file alone has no code imported
        with pytest.raises(SupermaskError, match=f"was found by the loss '{MARGIN}'.*give --loss {MARGIN}"):
            run_controls(tmp_path / "network.ticket", **{**asked, "loss": None})


def squared(outputs, targets):
    return nn.functional.mse_loss(outputs, nn.functional.one_hot(targets, 10).to(outputs))
