"""`--given FILE`: a search over a checkpoint on the command line, and the commands that take its ticket."""

import json

import pytest
import torch

from supermask import Ticket, models
from supermask.cli import main
from supermask.errors import SupermaskError
from supermask.parameters.given import Given
from supermask.runs import Job, SearchOptions
from supermask.search.edge_popup import EdgePopupRule
from supermask.training import Recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the folder of a dense run, and of a search over what it trained."""
    folder = tmp_path_factory.mktemp("given")
    assert main(["train", "--epochs", "1", "--out", str(folder / "dense"), "--device", "cpu"]) == 0
    checkpoint = folder / "dense" / "network.safetensors"
    asked = ["--given", str(checkpoint), "--epochs", "1", "--density", "0.2", "--device", "cpu"]
    assert main(["search", *asked, "--out", str(folder / "search")]) == 0
    return folder


def of(runs, *arguments, given=True):
    command, *rest = arguments
    ticket = str(runs / "search" / "network.ticket")
    checkpoint = ["--given", str(runs / "dense" / "network.safetensors")] if given else []
    return main([command, ticket, *rest, *checkpoint])


def test_the_ticket_is_over_the_file_and_holds_only_masks(runs):
    ticket = Ticket.load(runs / "search" / "network.ticket")
    assert ticket.checkpoint.name == "network.safetensors"
    assert not ticket.learned
    model = models.build("lenet_300_100", input_shape=(1, 8, 8))
    network = ticket.apply(model, given=runs / "dense" / "network.safetensors")
    assert int((network.fc1.weight != 0).sum()) == int(ticket.masks["fc1.weight"].sum())
    assert network.fc1.bias.any()  # trained, and kept


def test_evaluate_and_export_take_the_checkpoint_and_miss_it(runs, tmp_path, capsys):
    assert of(runs, "evaluate", "--device", "cpu", "--out", str(tmp_path)) == 0
    said = json.loads((tmp_path / "evaluation.json").read_text())
    result = json.loads((runs / "search" / "result.json").read_text())
    assert said["correct"] == result["test"]["correct"]
    assert of(runs, "export", "--format", "torch_export", "--out", str(tmp_path)) == 0
    capsys.readouterr()
    for command in ("evaluate", "export"):
        assert of(runs, command, given=False) == 2
        assert "which it does not hold; give them" in capsys.readouterr().err


def test_inspect_shows_the_checkpoint_and_compares_a_file_with_it(runs, tmp_path, capsys):
    assert of(runs, "inspect", given=False) == 0
    ticket, shown = Ticket.load(runs / "search" / "network.ticket"), capsys.readouterr().out
    assert ticket.checkpoint.title in shown
    assert ticket.digest in shown
    assert of(runs, "inspect") == 0
    assert "is the checkpoint that the ticket is over" in capsys.readouterr().out
    torch.save({"fc1.weight": torch.ones(1)}, tmp_path / "other.pt")
    assert of(runs, "inspect", "--given", str(tmp_path / "other.pt"), given=False) == 2
    assert "is not the checkpoint that the ticket is over" in capsys.readouterr().err


def test_judge_refuses_it_in_one_sentence(runs, capsys):
    assert of(runs, "judge", "--minutes", "1", given=False) == 2
    assert "is over given weights, of the checkpoint network.safetensors" in capsys.readouterr().err


def test_a_search_that_was_stopped_goes_on_to_the_same_bytes(runs, tmp_path, steps):
    again = ["--given", str(runs / "dense" / "network.safetensors"), "--epochs", "1", "--density", "0.2"]
    again += ["--device", "cpu", "--out", str(tmp_path)]
    steps.at = 7
    assert main(["search", *again]) == 130
    assert not (tmp_path / "network.ticket").exists()
    assert main(["search", *again, "--resume"]) == 0
    assert (tmp_path / "network.ticket").read_bytes() == (runs / "search" / "network.ticket").read_bytes()


def test_a_head_that_is_learned_need_not_be_in_the_checkpoint(runs, tmp_path, capsys):
    checkpoint = runs / "dense" / "network.safetensors"
    asked = ["--given", str(checkpoint), "--width", "2", "--epochs", "1", "--device", "cpu"]
    assert main(["search", *asked, "--out", str(tmp_path / "a")]) == 2
    assert "The checkpoint does not fit the model: its fc1.weight has shape" in capsys.readouterr().err
    body = {name: t for name, t in _loaded(checkpoint).items() if not name.startswith("fc3")}
    torch.save(body, tmp_path / "body.pt")
    asked = ["--given", str(tmp_path / "body.pt"), "--epochs", "1", "--device", "cpu"]
    assert main(["search", *asked, "--out", str(tmp_path / "b")]) == 2
    assert "it lacks fc3.weight" in capsys.readouterr().err
    assert main(["search", *asked, "--learned", "fc3.*", "--out", str(tmp_path / "c")]) == 0
    assert set(Ticket.load(tmp_path / "c" / "network.ticket").learned) == {"fc3.weight", "fc3.bias"}


def _loaded(path):
    import safetensors.torch

    return safetensors.torch.load_file(path)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--weights", "given"], "weights=given needs a checkpoint; give its file"),
        (["--given", "a.pt", "--weights", "uniform"], "weights=uniform are drawn, and those of a.pt are given"),
        (["--given", "a.pt", "--method", "edge_popup_trained"], "edge_popup_trained is not a search alone"),
        (["--given", "a.pt", "--method", "iterand"], "iterand cannot search over given weights"),
        (["--given", "a.pt"], "Cannot read the checkpoint a.pt"),
        (["--given", "a.pt", "--setting", "published"], "weights=signed_constant are drawn, and those of a.pt"),
    ],
)
def test_what_does_not_fit_is_one_sentence(asked, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["search", *asked, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


def test_what_a_job_leaves_open_is_that_of_given_weights():
    job = Job(
        search=SearchOptions(weights="given", bias="learned", density=0.1), given="net.pt", recipe=Recipe(epochs=2)
    )
    settled = job.settled()
    assert (settled.search.bias, settled.search.norm, settled.search.scaled) == ("learned", "frozen", False)
    given = EdgePopupRule(weights=Given("net.pt"), density=0.1)
    assert settled.recipe == given.recipe(Recipe(epochs=2))
    assert settled.recipe.peak > Job(search=SearchOptions(density=0.1), recipe=Recipe(epochs=2)).settled().recipe.peak
    assert job.config()["given"] == "net.pt"
    assert "given" not in Job().config()
    with pytest.raises(SupermaskError, match="given needs a checkpoint"):
        Job(search=SearchOptions(weights="given"))
