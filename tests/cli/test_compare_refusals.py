"""`supermask compare`: what is refused before anything is started."""

import pytest

from supermask.cli import main

QUICK = ["--data", "synthetic", "--width", "0.2", "--epochs", "1", "--batch-size", "100", "--device", "cpu"]
QUICK += ["--out", "here"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPERMASK_DATA", raising=False)


def status(*arguments):
    """Return the exit status of the command line."""
    try:
        return main(["compare", *QUICK, *arguments])
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "newton"], "'newton'; known are edge_popup"),
        (["--methods", "dense,toy_round"], "Unknown method 'toy_round' (perhaps toy_rounds); known are"),
        (["--methods", ","], "--methods is empty"),
        (["--seeds", "0"], "--seeds 0 is too small"),
        (["--seed", "-1"], "seed=-1 is out of range"),
        (["--density", "0.1,1.5"], "density=1.5 is out of range"),
        (["--density", "much"], "--density 'much' is not a list of numbers"),
        (["--density", ","], "--density is empty"),
        (["--density", "0.1234567,0.1234568"], "too close"),
        (["--density", "0.0001", "--scope", "global"], "leaves none in"),
        (["--model", "lenet"], "Unknown model 'lenet'"),
        (["--model", "torchvision:resnet18", "--width", "1"], "does not take the 1x8x8 images"),
        (["--data", "minst"], "no data set 'minst'"),
        (["--batch-size", "100000"], "batch_size=100000 is larger than"),
        (["--methods", "toy_rounds", "--include", "fc9.weight"], "'fc9.weight' matches no parameter"),
        (["--initial", "normal"], "Unknown distribution 'normal'"),
        (["--toy-rounds.rounds", "2"], "--toy-rounds.rounds is given, but not its method; ask for toy_rounds too"),
        (["--methods", "toy_rounds", "--toy-rounds.rounds", "some"], "some"),
        (["--dense.rounds", "2"], "--dense.rounds"),
        (["--density", "0.1,0.0001", "--scope", "global", "--methods", "edge_popup"], "leaves none in"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_started(tmp_path, toy, steps, arguments, says, capsys):
    assert status(*arguments) == 2
    error = capsys.readouterr().err
    # the parser draws a box, which may break a sentence
    assert says in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
    assert steps == []


def test_other_options_are_refused_in_a_folder_that_is_there(tmp_path, toy, steps, capsys):
    assert status("--methods", "toy_rounds", "--seeds", "1") == 0
    steps.clear()
    assert status("--methods", "dense,toy_rounds", "--seeds", "1", "--toy-rounds.rounds", "2") == 2
    assert "seed0 holds another run: options.rounds is 1 there and 2 now" in capsys.readouterr().err
    assert steps == []
