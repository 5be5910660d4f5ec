"""Jobs and the folders of their runs."""

import json
from dataclasses import fields, replace

import pytest
import safetensors.torch
import torch

from supermask import RunError, SupermaskError, Ticket, models
from supermask.runs import METHODS, Job, JobResult, RunFolder, SearchOptions, run
from supermask.runs import run_job as module
from supermask.training import Recipe, Stopped

JOB = Job(data="synthetic", recipe=Recipe(epochs=1, batch_size=100))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_leaves_its_files(tmp_path, method):
    network = {"model": "resnet20", "width": 0.25} if method == "early_bird" else {}  # which needs batch norm
    result = run(replace(JOB, method=method, **network), tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    kept = set() if method in ("dense", "pufferfish") else {"network.ticket"}  # which have no masks
    strong = bool(kept) and not Ticket.load(tmp_path / "network.ticket").provenance.get("trained", False)
    search = METHODS[method].rule is not None and method != "edge_popup_trained"
    assert strong == (search or method == "heuristic")
    kept |= set() if strong else {"network.safetensors"}
    kept |= {"network.compressed"} if method == "deep_compression" else set()
    assert files - {"scores.safetensors"} == {"config.json", "metrics.jsonl", "result.json"} | kept
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(result.to_json()))
    for key in ("versions", "machine", "seconds", "kept", "prunable", "bytes", "history", "test", "validation"):
        assert key in result.to_json()
    assert result.test.total > 0


def test_a_ticket_of_a_run_is_the_network_that_was_tested(tmp_path):
    result = run(JOB, tmp_path)
    ticket = Ticket.load(tmp_path / "network.ticket")
    made = ticket.provenance["model"]
    network = ticket.apply(
        models.build(made["name"], input_shape=tuple(made["input_shape"]), classes=made["classes"])
    ).eval()
    data_set = module.load_data(JOB, None)
    test = data_set.test()
    with torch.no_grad():
        correct = int((network(data_set.normalize(test.images)).argmax(1) == test.labels).sum())
    assert correct == result.test.correct
    assert (ticket.kept, ticket.prunable) == (result.kept, result.prunable)


def test_the_mask_is_the_largest_of_the_scores_that_are_kept_beside_it(tmp_path):
    run(JOB, tmp_path)
    scores = safetensors.torch.load_file(tmp_path / "scores.safetensors")
    for name, mask in Ticket.load(tmp_path / "network.ticket").masks.items():
        magnitude = scores[name].abs()
        assert magnitude[mask].min() >= magnitude[~mask].max()


def test_a_search_before_a_training_has_its_own_recipe_and_the_record_names_it(tmp_path, monkeypatch):
    trained, train = [], module.train
    monkeypatch.setattr(
        module,
        "train",
        lambda subject, data, recipe, **more: trained.append(recipe) or train(subject, data, recipe, **more),
    )
    job = replace(JOB, method="edge_popup_trained", search=SearchOptions(density=0.02))
    run(job, tmp_path)
    search, after = trained
    assert (search.learning_rate, search.warm_up) == (pytest.approx(0.1 * 0.2), 0.4)
    assert (after.learning_rate, after.warm_up) == (0.1, 0)
    config = job.config()
    assert config["search_recipe"]["learning_rate"] == search.learning_rate
    assert job.settled().config() == job.settled().settled().config() == config
    same = replace(job, recipe=replace(JOB.recipe, learning_rate=0.1, weight_decay=1e-4, warm_up=0))
    assert "search_recipe" not in same.config()
    assert same.settled().recipe == job.settled().recipe
    assert "its search: " in job.describe_training()
    assert "its search: " not in same.describe_training()


def test_a_finished_run_is_read_and_not_repeated(tmp_path, monkeypatch):
    first = run(JOB, tmp_path)
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("trained again"))
    assert run(JOB, tmp_path) == JobResult.from_json(json.loads(json.dumps(first.to_json())))


def test_packed_weights_find_the_same_ticket(tmp_path):
    packed = replace(JOB, search=replace(JOB.search, packed=True))
    whole, other = run(JOB, tmp_path / "whole"), run(packed, tmp_path / "packed")
    assert whole.history == other.history
    tickets = [Ticket.load(tmp_path / name / "network.ticket") for name in ("whole", "packed")]
    assert all(torch.equal(mask, tickets[1].masks[name]) for name, mask in tickets[0].masks.items())


def test_options_that_came_later_are_named_only_where_they_are_on():
    assert "compile" not in JOB.config()["recipe"]
    assert "packed" not in JOB.config()["search"]
    assert not {"padding", "flips", "warp"} & JOB.config()["recipe"].keys()
    still = replace(JOB, recipe=replace(JOB.recipe, augment=True, padding=2, flips=False)).config()["recipe"]
    assert (still["padding"], still["flips"]) == (2, False)
    assert replace(JOB, recipe=replace(JOB.recipe, compile=True)).config()["recipe"]["compile"] is True
    assert replace(JOB, search=replace(JOB.search, packed=True)).config()["search"]["packed"] is True


def test_another_job_is_refused_with_the_difference(tmp_path):
    run(JOB, tmp_path)
    with pytest.raises(RunError, match=r"search.density is 0.3 there and 0.5 now; give another --out"):
        run(replace(JOB, search=SearchOptions(density=0.5)), tmp_path)


def test_an_unfinished_run_wants_to_be_resumed(tmp_path):
    RunFolder.open(tmp_path, JOB.config(), resume=False)
    (tmp_path / "run.checkpoint").write_bytes(b"something")
    with pytest.raises(RunError, match="unfinished run; add --resume"):
        run(JOB, tmp_path)


def test_what_a_failed_run_left_behind_is_in_nobodys_way(tmp_path):
    bad = replace(JOB, recipe=replace(JOB.recipe, learning_rate=1e38))
    with pytest.raises(SupermaskError, match="diverged"):
        run(bad, tmp_path)
    assert run(JOB, tmp_path).test.accuracy > 0.2


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    whole = run(JOB, tmp_path / "whole")

    def stop(*arguments, **options):
        raise Stopped("stopped")

    monkeypatch.setattr(RunFolder, "write_result", stop)
    with pytest.raises(Stopped):
        run(JOB, tmp_path / "stopped")
    monkeypatch.undo()
    again = run(JOB, tmp_path / "stopped", resume=True)
    assert again.history == whole.history
    assert (tmp_path / "whole/network.ticket").read_bytes() == (tmp_path / "stopped/network.ticket").read_bytes()


def test_two_runs_of_one_job_are_equal_and_of_two_seeds_are_not(tmp_path):
    a, b, c = run(JOB, tmp_path / "a"), run(JOB, tmp_path / "b"), run(replace(JOB, seed=1), tmp_path / "c")
    assert a.history == b.history != c.history


def test_the_random_mask_is_edge_popup_before_its_first_step(tmp_path):
    run(replace(JOB, recipe=replace(JOB.recipe, epochs=0)), tmp_path / "a")
    run(replace(JOB, method="random_mask"), tmp_path / "b")
    a, b = (Ticket.load(tmp_path / folder / "network.ticket") for folder in "ab")
    assert all(torch.equal(a.masks[name], b.masks[name]) for name in a.masks)
    assert b.provenance["algorithm"] == "random_mask"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"method": "edgepopup"}, r"'edgepopup' \(perhaps edge_popup\); known are edge_popup, dense, random_mask"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"model": "lenet"}, "Unknown model 'lenet'; known are lenet_300_100"),
        ({"data": "minst"}, "'minst'; known are digits"),
        ({"model": "torchvision:resnet18"}, "torchvision:resnet18 does not take the 1x8x8 images"),
        ({"model": "lenet5"}, "lenet5"),
        ({"recipe": Recipe(batch_size=10**6)}, "batch_size=1000000 is larger than"),
    ],
)
def test_bad_jobs_are_one_clear_sentence(tmp_path, bad, says):
    with pytest.raises(SupermaskError, match=says) as caught:
        run(replace(JOB, **bad), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_bad_search_options_are_refused():
    with pytest.raises(SupermaskError, match=r"density=1\.5"):
        SearchOptions(density=1.5)
    with pytest.raises(SupermaskError, match="floor=1 needs scope=global"):
        SearchOptions(floor=1)
    with pytest.raises(SupermaskError, match="ramp=-1"):
        SearchOptions(ramp=-1)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SupermaskError, match="Cannot write the folder"):
        run(JOB, tmp_path / "file" / "run")


def test_the_options_of_all_searches_are_those_of_edge_popup_with_their_defaults():
    rule = METHODS["edge_popup"]
    for part in fields(SearchOptions):
        if part.name not in ("floor", "ramp", "density"):  # of the scope, of the schedule; always given
            assert getattr(SearchOptions().settle(rule), part.name) == getattr(rule, part.name)
