"""What `supermask judge` says about copies of a ticket that see the examples in other orders."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from supermask import EdgePopup, models
from supermask.baselines.sparse import Sparse
from supermask.judge import Barrier
from supermask.report.lines import Line, lines_figure
from supermask.runs.diagnostics import Context, examine, instability, trained_controls, weight_correlation
from supermask.runs.diagnostics.copied import Copies, correlations
from supermask.runs.diagnostics.instability import RANDOM, Instability, InstabilityResult
from supermask.training import evaluate, loop, train
from supermask.training.batches import Prepared

STEPS = 14  # an epoch


@pytest.fixture(scope="module", autouse=True)
def _short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained_controls, "LONGEST", 1)
        patch.setattr(instability, "COPIES", (2,))
        patch.setattr(instability, "POINTS", (3,))
        for module in (instability, weight_correlation):
            patch.setattr(module, "lines_figure", lambda *_, **__: b"\x89PNG")
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A weak ticket with normal weights, not found by any search."""
    model = {"name": "lenet_300_100", "input_shape": [1, 8, 8], "classes": 10, "width": 0.1}
    network = models.build("lenet_300_100", input_shape=(1, 8, 8), width=0.1)
    ticket = EdgePopup(network, density=0.4, seed=0, weights="kaiming_normal").ticket()
    path = tmp_path_factory.mktemp("weak") / "weak.ticket"
    replace(ticket, provenance={"model": model, "data": "synthetic", "trained": True}).save(path)
    return path


def context_of(path, out):
    return Context.of(path, None, out=out, minutes=60.0, progress=False)


@pytest.fixture(scope="module")
def examined(made, tmp_path_factory):
    return examine(context_of(made, tmp_path_factory.mktemp("out")), [Instability()])


def test_the_ends_of_the_lines_are_copies_trained_by_hand(examined):
    context, result = examined.context, examined.found[0].result
    assert list(result.networks) == ["ticket", RANDOM]
    assert (result.steps, result.copies, result.points, result.images) == (STEPS, 2, 3, 200)
    errors = []
    for order in (0, 1):
        subject = Sparse(context.filed.build(), context.ticket)
        outcome = train(subject, context.data, context.recipe(STEPS), seed=order, progress=False)
        subject.load_state_dict(outcome.last)
        errors.append(1 - evaluate(subject.model, Prepared(context.data, context.test, context.recipe(1))).accuracy)
    (found,) = result.networks["ticket"].barriers
    assert (found.errors[-1], found.errors[0]) == pytest.approx(errors)
    assert found.distance > 0
    assert result.networks[RANDOM].barriers[0].errors != found.errors
    assert result.networks["ticket"].interpolated == ()  # there is no batch norm


def test_initial_and_trained_weights_are_ranked_among_what_is_kept(examined):
    kept = examined.context.ticket.kept
    for found in examined.found[0].result.networks.values():
        assert [each.fraction for each in found.correlations] == [0.1, 0.2, 0.3, 0.5]
        assert all(each.value > each.high and each.z > 5 for each in found.correlations)
        assert found.correlations[-1].taken == pytest.approx(kept / 2, abs=2)


def test_both_sections_and_the_summary_say_how_long_the_training_was(examined):
    found = examined.found[0]
    assert [section.title for section in found.sections] == ["Instability", "Weight correlation"]
    text = found.sections[0].text
    assert "Each network has 2 copies, after 14 steps (1.0 epochs)" in text
    assert "a verdict after 14 may differ" in text
    assert "strong one" not in text
    assert [row[0] for row in found.sections[0].table.rows] == ["ticket", RANDOM]
    assert len(found.sections[1].table.rows) == 8
    first, second = found.facts
    assert first.name == "Stable to the order of the examples, trained for 14 steps"
    assert first.mark in ("yes", "no")
    assert second.text.startswith("R_0.2 = 0.")


def test_the_copies_are_not_kept_once_they_were_compared(examined):
    folder = examined.context.out / "instability-points3-copies2-steps14"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"ticket", "random-mask"}
    assert [*folder.rglob("*.checkpoint")] == []


def test_a_stopped_report_goes_on_with_the_copy_that_it_was_at(made, examined, tmp_path, monkeypatch):
    train_step, steps = loop._Run._train_step, []

    def taken(run):
        steps.append(run.step)
        if len(steps) == 3 * STEPS + 2:  # in the second copy of the random mask
            os.kill(os.getpid(), signal.SIGINT)
        train_step(run)

    monkeypatch.setattr(loop._Run, "_train_step", taken)
    assert examine(context_of(made, tmp_path), [Instability()]).stopped
    again = examine(context_of(made, tmp_path), [Instability()])
    assert len(steps) == 4 * STEPS
    assert again.found[0].result.networks == examined.found[0].result.networks


def barriers(*heights):
    return tuple(Barrier((0.0, 0.5, 1.0), (0.1, 0.1 + height, 0.1), (0.0, 0.0, 0.0), 1.0, 0.1) for height in heights)


def result_of(ticket, random=None):
    networks = {"ticket": Copies(ticket, (), ())}
    networks |= {RANDOM: Copies(random, (), ())} if random else {}
    return InstabilityResult(networks=networks, copies=3, points=3, images=200, steps=STEPS, epochs=1.0, recipe="sgd")


@pytest.mark.parametrize(
    ("heights", "mark"), [((0.0, 0.01), "yes"), ((0.05, 0.02), "no"), ((0.0, 0.05, 0.01), "undecided")]
)
def test_a_network_is_stable_if_all_pairs_are(heights, mark):
    fact = Instability().facts(result_of(barriers(*heights), barriers(0.3)))[0]
    assert fact.mark == mark
    assert fact.text.endswith("; random mask 30.00 points")


def test_what_weakens_a_verdict_is_said(examined, made, tmp_path, monkeypatch):
    context, ticket = examined.context, examined.context.ticket
    both = Instability().section(context, result_of(barriers(0.0), barriers(0.01)))
    assert "The random mask is stable too" in both.text
    one = Instability().section(context, result_of(barriers(0.0), barriers(0.05)))
    assert "stable too" not in one.text
    assert "There was no time for a random mask" in Instability().section(context, result_of(barriers(0.0))).text
    monkeypatch.setattr(trained_controls, "LONGEST", 10)
    assert (
        "This is a short training: the longest here is of 140 steps"
        in Instability().section(context, result_of(barriers(0.0))).text
    )
    strong = tmp_path / "strong.ticket"
    replace(ticket, provenance={**ticket.provenance, "trained": False}).save(strong)
    of_strong = replace(context, filed=context_of(strong, tmp_path / "out").filed)
    assert (
        "it claims that its network is accurate without training" in Instability().section(of_strong, one_result()).text
    )


def one_result():
    return result_of(barriers(0.0))


def test_with_batch_norm_both_statistics_are_shown(examined):
    result = result_of(barriers(0.01))
    result = replace(result, networks={"ticket": Copies(barriers(0.01), barriers(0.2), ())})
    section = Instability().section(examined.context, result)
    assert section.table.rows[0][2:5] == ["1.00", "0.00", "20.00"]
    assert "No training visited the networks in between" in section.text


def test_signed_constants_have_no_ranking_to_keep():
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 5))
    before = {name: each.detach().clone() for name, each in model.named_parameters() if each.ndim == 2}
    masks = {name: torch.ones(each.shape, dtype=torch.bool) for name, each in before.items()}
    whole = correlations(before, model, masks)
    assert [each.value for each in whole] == [1.0] * 4
    constant = {**before, "0.weight": before["0.weight"].sign()}
    found = correlations(constant, model, masks)
    assert [each.taken for each in found] == [3, 6, 9, 15]  # of the second layer's 30
    constant["1.weight"] = before["1.weight"].sign()
    assert correlations(constant, model, masks) == ()
    section = weight_correlation.correlation_section({"ticket": ()}, "14 steps", "supermask judge")
    assert "(signed constants)" in section.text
    assert section.table is None
    assert weight_correlation.correlation_fact((), "14 steps") == []
    few = {"1.weight": torch.zeros(5, 6, dtype=torch.bool)}
    few["1.weight"][0, :4] = True
    assert [each.fraction for each in correlations(before, model, few)] == [0.2, 0.3, 0.5]


def test_the_estimate_grows_with_what_is_done(examined, monkeypatch):
    monkeypatch.setattr(instability, "COPIES", (3, 2))
    monkeypatch.setattr(instability, "POINTS", (30, 11))
    sizes = Instability().sizes(examined.context)
    assert [size.options for size in sizes[:2]] == [
        {"points": 30, "copies": 3, "steps": STEPS},
        {"points": 11, "copies": 3, "steps": STEPS},
    ]
    assert sizes[0].seconds > sizes[1].seconds > sizes[3].seconds > 0


def test_lines_are_drawn_with_their_interval():
    png = lines_figure({"a": Line([0, 1], [1, 2]), "b": Line([0, 1], [2, 2], 1, True, [1, 1], [3, 3])}, "x", "y")
    assert png.startswith(b"\x89PNG")
