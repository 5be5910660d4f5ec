"""`supermask search --method`: every search from the command line to a ticket that is worth what it says."""

import json

import pytest

from supermask.cli import main
from supermask.runs import METHODS
from supermask.search import SEARCHES

QUICK = ["--width", "0.2", "--epochs", "2", "--batch-size", "64"]


def test_every_search_is_a_method():
    assert SEARCHES.keys() <= METHODS.keys()
    assert all(type(METHODS[name]) is search.kind for name, search in SEARCHES.items())


@pytest.mark.parametrize("name", SEARCHES)
def test_its_ticket_is_evaluated_to_the_accuracy_of_the_search(name, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["search", "--method", name, *QUICK, "--density", "0.4", "--out", str(out)]) == 0
    assert main(["evaluate", str(out / "network.ticket")]) == 0
    assert main(["inspect", str(out / "network.ticket"), "--out", str(tmp_path / "seen")]) == 0
    result = json.loads((out / "result.json").read_text())
    evaluated = json.loads((out / "evaluation.json").read_text())
    assert result["test"]["correct"] == evaluated["correct"]
    assert result["bytes"] == (out / "network.ticket").stat().st_size
    if name not in ("learned", "gem_miner", "structured", "coded"):
        assert result["kept"] == pytest.approx(0.4 * result["prunable"], abs=3)
    assert name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "imp"], "imp is not a search"),
        (["--method", "sined"], "perhaps signed"),
        (["--gem-miner.penalty", "0.1"], "ask for gem_miner too"),
        (["--method", "iterand", "--iterand.every", "0"], "every=0"),
        (["--method", "multicoated", "--multicoated.coats", "0"], "coats=0"),
        (["--method", "partially_frozen", "--partially-frozen.locked", "1"], "does not fit"),
        (["--method", "structured", "--structured.rows", "0"], "without weights"),
        (["--method", "gem_miner", "--gem-miner.freeze-every", "100000"], "freeze_every=100000"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, says, tmp_path, capsys):
    assert main(["search", *QUICK, "--out", str(tmp_path / "run"), *arguments]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in told
    assert told.startswith("supermask: ")


def test_own_options_are_part_of_what_a_run_is(tmp_path, capsys):
    out = tmp_path / "run"
    asked = ["search", "--method", "multicoated", *QUICK, "--out", str(out)]
    assert main([*asked, "--multicoated.coats", "2"]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["options"] == {"coats": 2}
    assert "packed" not in config["search"]
    assert main([*asked, "--multicoated.coats", "3"]) == 2
    assert "options.coats is 2 there and 3 now" in capsys.readouterr().err
