"""`supermask compare --controls`, `--ticket` and `--protocol`."""

import json

import pytest
from toy_method import Toy

from supermask.cli import main
from supermask.judge.controls import CONTROLS
from supermask.runs import METHODS
from supermask.runs.protocols import PROTOCOLS

QUICK = ["--data", "synthetic", "--width", "0.1", "--epochs", "1", "--batch-size", "100", "--device", "cpu"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of a method that is a class and a line in the registry, no more."""
    out = tmp_path_factory.mktemp("compared")
    asked = ["compare", "--methods", "toy_rounds,dense", "--density", "0.2", "--seeds", "2", "--controls", *QUICK]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, Toy.name, Toy())
        assert main([*asked, "--out", str(out)]) == 0
    return out


def test_every_ticket_is_shown_beside_all_controls_with_verdicts(compared):
    values = json.loads((compared / "controls.json").read_text())
    assert list(values) == ["toy_rounds, density 0.2"]
    networks, verdicts = values["toy_rounds, density 0.2"]["networks"], values["toy_rounds, density 0.2"]["verdicts"]
    assert list(networks) == ["ticket", *CONTROLS, "dense", "small_dense"]
    assert all(len(network["trained_accuracy"]) == 2 for network in networks.values())
    claims = {verdict["claim"] for verdict in verdicts}
    assert claims == {"matching", "winning", "passes the sanity checks", "beats random masks"}
    shown = (compared / "controls.md").read_text()
    assert all(name in shown for name in networks)
    assert all(f"- {claim}, trained: " in shown for claim in claims)
    assert (compared / "controls-0.png").stat().st_size > 1000


def test_files_of_tickets_are_judged_without_a_comparison(compared, tmp_path, capsys, monkeypatch):
    ticket = next(compared.glob("toy_rounds-*seed1/network.ticket"))
    assert main(["compare", "--ticket", str(ticket), "--seeds", "1", *QUICK, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "ticket beside its controls" in shown
    assert "one seed has no interval: run more" in shown
    assert not list(tmp_path.glob("toy*"))
    monkeypatch.setattr("supermask.runs.run_controls.train", lambda *_, **__: pytest.fail("trained again"))
    assert main(["compare", "--ticket", str(ticket), "--seeds", "1", *QUICK, "--out", str(tmp_path)]) == 0


def test_a_ticket_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["compare", "--ticket", "no.ticket", *QUICK, "--out", str(tmp_path)]) == 2
    assert "--ticket no.ticket: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("how", [["--protocol", "lenet_300_100"], ["--protocol=lenet_300_100"]])
def test_a_protocol_is_what_the_options_start_from(tmp_path, capsys, how):
    asked = ["compare", *how, "--iterations", "100", "--data", "digits", "--validation", "300", "--dry-run"]
    assert main([*asked, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert PROTOCOLS["lenet_300_100"].describe() in shown
    departures = shown.split("Different here:")[1]
    assert "- recipe.iterations is 100, not 50000\n" in departures
    assert "- data is digits, not mnist\n" in departures
    assert "- validation is 300, not 5000\n" in departures
    assert departures.count("\n- ") == 3
    assert "105 of 105 runs left: imp 105." in departures  # 21 rungs, 5 trials


def test_an_unknown_protocol_is_refused(capsys):
    assert main(["compare", "--protocol", "alexnet"]) == 2
    assert "Unknown protocol 'alexnet'" in capsys.readouterr().err


def test_a_weak_ticket_is_evaluated_with_a_word_on_what_it_is(compared, tmp_path, capsys):
    ticket = next(compared.glob("toy_rounds-*seed1/network.ticket"))
    assert main(["evaluate", str(ticket), "--out", str(tmp_path)]) == 0
    assert "a weak one: these are its weights before training" in capsys.readouterr().out
