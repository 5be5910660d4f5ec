"""Text tickets as an experiment: what is pruned, what is carried, what is trained, and what the report says."""

from dataclasses import replace

import pytest
import torch

from experiments import text_tickets as report
from experiments.measuring import text_training as training
from supermask.data.data_set import DataSet, Examples
from supermask.data.split import nothing_of

LENGTHS = training.Lengths(pretraining=5, tuning=4, search=4, test=20, width=0.25)


def _data(name, *, pooled):
    """Tokens of 97 kinds, 8 at a time; labels are the next ones, or whether the first is large."""
    ids = torch.randint(0, 97, (90, 9), generator=torch.Generator().manual_seed(0))
    ids[0, 0] = 96
    labels = (ids[:, 0] > 40).long() if pooled else ids[:, 1:].contiguous()
    parts = [Examples(ids[part, :8].contiguous(), labels[part]) for part in (slice(0, 60), slice(60, 90))]
    classes, nothing = (2, 3) if pooled else (97, 0), nothing_of(parts[0])
    return DataSet(name, classes[0], (8,), 1.0, (), (), parts[0], nothing, lambda: parts[1])


@pytest.fixture
def texts(monkeypatch):
    pair = {
        "characters": training.Text("transformer", "text:none.txt", lambda folder: _data("a", pooled=False)),
        "kinds": training.Text("classifier", "source_text", lambda folder: _data("b", pooled=True)),
    }
    monkeypatch.setattr(training, "TEXTS", pair)
    return pair


def _task(way, density=0.3):
    return training.Tickets(way, 1.0 if way.startswith("dense") else density, 0, LENGTHS)


def _work(task, path):
    return training._Work(task, path, torch.device("cpu"), None)


def _run(task, path):
    return task.run(path / f"{task.way} {task.density:g}", device="cpu", data_folder=None)


def test_ways_are_trained_on_both_tasks_and_reported(tmp_path, texts):
    ways: tuple[training.Way, ...] = ("dense", "dense, not pretrained", "magnitude, one-shot", "strong")
    found = {report._label(way, 0.3): [_run(_task(way), tmp_path)] for way in ways}
    for (result,) in found.values():
        assert all({*row} == {*texts} for row in (*result.accuracies.values(), *result.losses.values()))
        assert len(report._row([result])) == len(report.EXPERIMENT.table.header)
    # a pretrained network starts elsewhere than one that is not
    assert found["dense"][0].losses != found["dense, not pretrained"][0].losses
    scratch = found["dense, not pretrained"][0].losses
    assert scratch["characters"] == scratch["kinds"]  # no source there
    said = report._conclusion(found)
    assert "at density 0.3 magnitude, one-shot" in said
    assert "the parts keep" in said
    assert "points from kinds to characters" in said
    report._plot(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").exists()
    assert _run(_task("strong"), tmp_path) == found["strong, 0.3"][0]


def test_one_shot_masks_keep_the_largest_pretrained_weights_of_the_whole_network_but_the_head(tmp_path, texts):
    work = _work(_task("magnitude, one-shot"), tmp_path)
    masks, weights = work._masks("characters"), work._pretrained("characters")
    assert not any(name.startswith("head") for name in masks)
    assert {name.split(".")[0] for name in masks} == {"tokens", "places", "blocks"}
    kept = torch.cat([weights[name].abs()[mask] for name, mask in masks.items()])
    lost = torch.cat([weights[name].abs()[~mask] for name, mask in masks.items()])
    assert kept.min() >= lost.max()
    assert len(kept) == round(0.3 * (len(kept) + len(lost)))


def test_iterative_masks_are_nested_and_begin_at_the_pretrained_weights_each_time(tmp_path, texts, monkeypatch):
    started = []
    whole = training.RunContext.train

    def train(context, subject, **more):
        started.append((more["stage"], {name: weight.clone() for name, weight in subject.weights().items()}))
        return whole(context, subject, **more)

    monkeypatch.setattr(training.RunContext, "train", train)
    work = _work(_task("magnitude, iterative", 0.1), tmp_path)
    last = work._masks("kinds")
    half = _work(_task("magnitude, iterative", 0.5), tmp_path)._masks("kinds")
    assert all((half[name] | ~last[name]).all() for name in last)
    pretrained = work._pretrained("kinds")
    rounds = [weights for stage, weights in started if stage.startswith(("dense-from", "magnitude"))]
    assert len(rounds) == 4  # three for 0.1, one for 0.5
    for weights in rounds:
        for name, weight in weights.items():
            assert torch.equal(weight[weight != 0], pretrained[name][weight != 0])


def test_controls_and_resets_differ_from_the_ticket_in_what_they_say(tmp_path, texts):
    masks = {way: _work(_task(way), tmp_path)._masks("kinds") for way in report.SPARSE if way != "strong"}
    magnitude = masks["magnitude, one-shot"]
    for way in ("reset", "reinitialised"):
        assert all(torch.equal(mask, magnitude[name]) for name, mask in masks[way].items())
    for name, mask in masks["shuffled in layers"].items():
        assert mask.sum() == magnitude[name].sum()
    assert any((mask != magnitude[name]).any() for name, mask in masks["shuffled in layers"].items())
    assert sum(int(m.sum()) for m in masks["random"].values()) == sum(int(m.sum()) for m in magnitude.values())


@pytest.mark.parametrize("way", ["magnitude, one-shot", "reset", "reinitialised"])
def test_what_is_trained_starts_where_its_name_says(way, tmp_path, texts, monkeypatch):
    started = {}
    whole = training.RunContext.train

    def train(context, subject, **more):
        started[more["stage"]] = {name: value.clone() for name, value in subject.model.state_dict().items()}
        return whole(context, subject, **more)

    work = _work(_task(way), tmp_path)
    masks, pretrained = work._masks("characters"), work._pretrained("characters")
    there = work.contexts["kinds"].sparse().model.state_dict()
    monkeypatch.setattr(training.RunContext, "train", train)
    work._tuned(way, 0.3, "characters", "kinds", masks)
    (start,) = (each for stage, each in started.items() if "from-characters" in stage)
    for name, mask in masks.items():
        assert not start[name][~mask].any()
        expected = {"magnitude, one-shot": pretrained, "reset": there}.get(way)
        if expected is not None:
            assert torch.equal(start[name][mask], expected[name][mask])
        elif mask.sum() > 4:
            assert not torch.equal(start[name][mask], there[name][mask])
    if way == "reset":
        assert torch.equal(start["head.weight"], there["head.weight"])
    assert start["head.weight"].shape == (2, 16)


def test_a_strong_ticket_is_carried_untrained_but_for_a_whole_head(tmp_path, texts):
    work = _work(_task("strong", 0.5), tmp_path)
    result = work.strong()
    search = work.contexts["characters"].search(training.EdgePopupRule())
    work.contexts["characters"].train(search, stage="search-0.5")
    ticket = search.ticket()
    outcome = work._headed(ticket, "characters", work.contexts["kinds"])
    assert outcome.test.accuracy == result.accuracies["characters"]["kinds"]
    trained, masks = outcome.last["model"], outcome.last["masks"]
    assert masks["head.weight"].all()
    fresh = work.contexts["kinds"].build()
    assert fresh.blocks[0].factor != 1.0
    ours = ticket.apply(work.contexts["characters"].build()).state_dict()
    for name, weight in trained.items():
        if name.startswith("blocks") or name.startswith("tokens"):
            assert torch.equal(weight, ours[name]), name
    assert set(trained["head.weight"].abs().unique().tolist()) != {0.0}
    assert len(trained["head.weight"].abs().unique()) > 2  # trained, no longer signed constants


def test_configs_tell_the_ways_apart(texts):
    configs = [
        str(_task(way, density).config()) for way in (*report.SPARSE, "strong, narrow keys") for density in (0.5, 0.3)
    ]
    assert len({*configs}) == len(configs)
    assert _task("strong").config() != replace(_task("strong"), lengths=training.LENGTHS).config()
