"""Models, data and losses of the user's own on the command line, and tickets of them in fresh processes."""

import importlib.metadata
import json
import math
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from own_things import pixels, write_images, write_npz, write_package, write_text
from PIL import Image

from supermask import Ticket, imported, runs
from supermask.cli import main
from supermask.runs.diagnostics import instability, trained_controls

FAST = ["--device", "cpu", "--epochs", "3", "--batch-size", "16", "--learning-rate", "0.1"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Return a folder with a package and data of every kind."""
    folder = tmp_path_factory.mktemp("lab")
    write_package(folder, "lab_of_tests")
    write_npz(folder / "digits.npz")
    for part, count, seed in (("train", 60, 0), ("test", 30, 1)):
        write_images(folder / "parts" / part, count, seed)
    write_images(folder / "classes", 60)
    write_text(folder / "cat.txt")
    return folder


@pytest.fixture(autouse=True)
def here(lab, monkeypatch):
    monkeypatch.chdir(lab)
    path = [*sys.path]
    yield
    sys.path[:] = path


def ours(name):
    return f"lab_of_tests.things:{name}"


def fresh(*calls):
    """Run commands one after the other in a fresh process, in the current folder; return what they print."""
    source = (
        f"from supermask.cli import main\nfor call in {list(calls)!r}:\n    status = main(call)\n    assert not status"
    )
    # -P: as the installed command, which does not put the current folder on Python's path
    done = subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


EVERY_KIND = {
    "npz": ("npz:digits.npz", ours("mlp")),
    "parts": ("folder:parts", ours("mlp")),
    "classes": ("folder:classes?size=6", ours("mlp")),
    "floats": (ours("floats"), ours("mlp")),
    "float images of a house network": (ours("floats"), "lenet_300_100"),
    "vectors": (ours("vectors"), ours("Plain")),
    "loaders": (ours("batches"), ours("mlp")),
    "text": ("text:cat.txt?context=8", "char_gpt"),
    "text, own network": ("text:cat.txt?context=8", ours("Reader")),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_ticket_of_any_data_and_model_is_evaluated_to_the_same_score(kind, tmp_path, capsys):
    data, model = EVERY_KIND[kind]
    out = tmp_path / "run"
    assert main(["search", "--data", data, "--model", model, *FAST, "--out", str(out)]) == 0
    ticket, result = Ticket.load(out / "network.ticket"), json.loads((out / "result.json").read_text())
    assert ticket.provenance["data"] == data
    assert ticket.provenance["model"]["name"] == model
    asked = ["--data", data, "--model", model, "--device", "cpu", "--out", str(tmp_path)]
    assert main(["evaluate", str(out / "network.ticket"), *asked]) == 0
    said = json.loads((tmp_path / "evaluation.json").read_text())
    assert (said["correct"], said["total"]) == (result["test"]["correct"], result["test"]["total"])
    assert said["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)
    assert said["loss"] < (2.0 if "text" in kind else 1.0)  # chance is 2.4 and 1.1 nats
    shown = capsys.readouterr().out
    assert ("nats" in shown) == data.startswith("text:")
    assert (out / ("loss.png" if data.startswith("text:") else "accuracy.png")).exists()


@pytest.mark.parametrize("kind", ["npz", "text, own network"])
def test_a_stopped_run_goes_on_in_a_fresh_process_to_the_same_bytes(kind, tmp_path, steps):
    data, model = EVERY_KIND[kind]
    asked = ["search", "--data", data, "--model", model, *FAST]
    assert main([*asked, "--out", str(tmp_path / "whole")]) == 0
    steps.clear()
    steps.at = 17
    assert main([*asked, "--out", str(tmp_path / "again")]) == 130
    ticket = str(tmp_path / "again" / "network.ticket")
    shown = fresh(
        [*asked, "--out", str(tmp_path / "again"), "--resume"],
        ["evaluate", ticket, "--data", data, "--model", model, "--device", "cpu"],
    )
    whole, again = (tmp_path / name / "network.ticket" for name in ("whole", "again"))
    assert whole.read_bytes() == again.read_bytes()
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert f"{result['test']['correct']:,} of {result['test']['total']:,}" in shown.split("evaluation.json")[0]


def relabelled(folder):
    with np.load(folder / "digits.npz") as file:
        arrays = dict(file)
    arrays["y_train"][0] = (arrays["y_train"][0] + 1) % 3
    np.savez(folder / "digits.npz", **arrays)


def other_test_images(folder):
    with np.load(folder / "digits.npz") as file:
        arrays = dict(file)
    np.savez(folder / "digits.npz", **{**arrays, "x_test": 255 - arrays["x_test"]})


def repainted(folder):
    image = next(iter(sorted((folder / "parts" / "train" / "class1").iterdir())))
    painted = np.array(Image.open(image))
    painted[7, 7] ^= 1
    Image.fromarray(painted).save(image)


def one_test_image_less(folder):
    next(iter(sorted((folder / "parts" / "test" / "class1").iterdir()))).unlink()


def another_end(folder):
    text = (folder / "cat.txt").read_text()
    (folder / "cat.txt").write_text(f"{text[:-5]}mats.")


CHANGES = {
    relabelled: "npz:digits.npz",
    other_test_images: "npz:digits.npz",
    repainted: "folder:parts",
    one_test_image_less: "folder:parts",
    another_end: "text:cat.txt?context=8",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_goes_on_with_the_data_that_it_was_stopped_with_and_no_others(
    change, tmp_path, steps, capsys, monkeypatch
):
    write_npz(tmp_path / "digits.npz")
    write_text(tmp_path / "cat.txt")
    for part, count, seed in (("train", 60, 0), ("test", 30, 1)):
        write_images(tmp_path / "parts" / part, count, seed)
    monkeypatch.chdir(tmp_path)
    model = "char_gpt" if CHANGES[change].startswith("text:") else "lenet_300_100"
    fast = ["--device", "cpu", "--epochs", "1", "--batch-size", "8", "--width", "0.1"]
    asked = ["search", "--data", CHANGES[change], "--model", model, *fast, "--out", "run"]
    steps.at = 3
    assert main(asked) == 130
    there = (tmp_path / "run" / "run.checkpoint").read_bytes()
    steps.at = None
    change(tmp_path)
    capsys.readouterr()
    assert main([*asked, "--resume"]) == 2
    said = capsys.readouterr().err
    assert f"supermask: The data {CHANGES[change]} have changed since the checkpoint" in said
    assert said.rstrip().endswith("or start again in another folder.")
    assert (tmp_path / "run" / "run.checkpoint").read_bytes() == there


def test_a_factory_is_called_with_what_its_signature_names(tmp_path):
    things = imported.imported(ours("CALLS"))
    things.clear()
    assert (
        main(
            ["train", "--data", "npz:digits.npz", "--model", ours("mlp"), "--width", "2", *FAST, "--out", str(tmp_path)]
        )
        == 0
    )
    assert set(things) == {((1, 8, 8), 3, 2.0)}


def test_the_page_on_own_things_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(runs.__file__).parent / "README.md").read_text().split("## Your own model, data and loss")[1]
    Path("mine.py").write_text(page.split("```python\n")[1].split("```")[0])
    for line in page.split("```bash\n")[1].split("```")[0].splitlines():
        _, *words = line.split()
        assert main([*words, "--device", "cpu", *(["--epochs", "4"] if words[0] != "evaluate" else [])]) == 0
    assert json.loads(Path("runs/quadrants/evaluation.json").read_text())["accuracy"] > 0.8
    sys.modules.pop("mine")


def test_compare_shows_own_data_and_text_by_its_loss(tmp_path, capsys):
    data, model = EVERY_KIND["text"]
    asked = ["compare", "--data", data, "--model", model, "--seeds", "2", "--methods", "edge_popup,dense,snip", *FAST]
    assert main([*asked, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "test loss, nats per character" in shown
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    for row in rows:
        assert row["test_loss"] == pytest.approx(np.mean(list(row["runs"].values())))
        assert 0 < row["test_loss"] < math.log(20)
    assert len({path.name for path in tmp_path.glob("*/result.json")}) == 1
    assert not [path for path in tmp_path.iterdir() if ":" in path.name or "?" in path.name]


def test_float_targets_need_a_loss_and_are_told_by_it(tmp_path, capsys):
    asked = ["--data", ours("regression"), "--model", ours("line"), *FAST]
    assert main(["train", *asked, "--out", str(tmp_path / "a")]) == 2
    assert "say which by loss=" in capsys.readouterr().err
    for loss in ("mse", ours("absolute"), "torch.nn:HuberLoss"):
        out = tmp_path / loss.replace(":", "-")
        assert main(["search", *asked, "--loss", loss, "--out", str(out)]) == 0
        shown = capsys.readouterr().out
        assert "test loss" in shown
        assert "accuracy" not in shown.replace("accuracy.png", "")
        result = json.loads((out / "result.json").read_text())
        assert result["test"]["accuracy"] is None
        ticket = str(out / "network.ticket")
        with_loss = [] if loss == "mse" else ["--loss", loss]
        wanted = ["evaluate", ticket, "--data", ours("regression"), "--model", ours("line"), "--device", "cpu"]
        assert main([*wanted, *with_loss]) == 0
        said = json.loads((out / "evaluation.json").read_text())
        assert said["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)
        if with_loss:
            assert main(wanted) == 2
            assert f"give --loss {loss} to import it" in capsys.readouterr().err
    methods = ["compare", *asked, "--loss", "mse", "--methods", "edge_popup,dense", "--seeds", "1"]
    assert main([*methods, "--out", str(tmp_path / "c")]) == 0
    assert "| test loss |" in capsys.readouterr().out


WRONG = {
    "no module": (["--model", "no_such_lab:mlp"], "Cannot import no_such_lab of no_such_lab:mlp: ModuleNotFoundError"),
    "its import": (["--model", "lab_of_tests.halfway:mlp"], "No module named 'no_such_package'"),
    "no attribute": (["--model", ours("mlq")], "lab_of_tests.things has nothing called mlq"),
    "not callable": (["--model", ours("number")], "is of type int, which cannot be called"),
    "raises": (["--model", ours("raises")], "called with nothing, raised KeyError ('no weights here')"),
    "no module made": (["--model", ours("nothing")], "returned a NoneType; expected a torch.nn.Module"),
    "made already": (["--model", ours("made")], "is a module that is already made"),
    "width": (["--model", ours("Plain"), "--width", "2"], "takes no width"),
    "other inputs": (["--model", ours("Plain")], "does not take the 1x8x8 images of npz:digits.npz"),
    "tokens wanted": (["--model", "char_gpt"], "char_gpt takes token ids"),
    "images wanted": (["--data", "text:cat.txt"], "must be three positive integers (channels, height, width)"),
    "loss": (["--loss", "huber"], "There is no loss 'huber'; known are cross_entropy, mse"),
    "loss raises": (["--loss", ours("broken_loss")], "the loss cannot be taken: 'no loss here'"),
    "no data": (["--data", ours("no_data")], "returned a list; expected a supermask.data.DataSet"),
    "no folder": (["--data", "folder:nowhere"], "There is no folder nowhere"),
    "no classes": (["--data", "folder:lab_of_tests"], "folders; give one with a folder of images for each class"),
    "no file": (["--data", "npz:nowhere.npz"], "Cannot read nowhere.npz: No such file or directory"),
    "no npz": (["--data", "npz:cat.txt"], "Cannot read cat.txt: it is not a file of numpy.savez"),
    "other arrays": (["--data", "npz:other.npz"], "has the arrays a, b; expected x_train"),
    "objects": (["--data", "npz:objects.npz"], "Cannot read the array x_train of objects.npz"),
    "lengths": (["--data", "npz:lengths.npz"], "has 4 examples in x_train and 3 in y_train"),
    "not finite": (["--data", "npz:nan.npz"], "has numbers that are not finite"),
    "negative": (["--data", "npz:negative.npz"], "run from -1 to 1; expected 0 to 1"),
    "no text": (["--data", "text:digits.npz"], "is not a text in UTF-8"),
    "short text": (["--data", "text:short.txt"], "too few for windows of 64; give a longer text"),
    "option": (["--data", "text:cat.txt?length=3"], "should be text:PATH, followed by ?context=NUMBER"),
    "size": (["--data", "folder:classes?size=0"], "should be folder:PATH, followed by ?size=NUMBER"),
    "nothing": (["--data", "npz:"], "should be npz:PATH, followed by nothing"),
    "sizes differ": (["--data", "folder:differ"], "is 5x5; add ?size=NUMBER"),
    "damaged image": (["--data", "folder:damaged"], "damaged/class0/broken.png: UnidentifiedImageError"),
    "cut image": (["--data", "folder:cut"], "Cannot read the image cut/class0/half.png: OSError"),
}


@pytest.fixture(scope="module")
def wrong_files(lab):
    x, y = pixels(4, 0)
    np.savez(lab / "other.npz", a=x, b=y)
    np.savez(lab / "objects.npz", x_train=np.array([{}, {}], dtype=object), y_train=y[:2])
    np.savez(lab / "lengths.npz", x_train=x, y_train=y[:3])
    np.savez(lab / "nan.npz", x_train=np.array([[math.nan, 1.0]]), y_train=y[:1])
    np.savez(lab / "negative.npz", x_train=x, y_train=np.array([-1, 0, 1, 0]))
    (lab / "short.txt").write_text("to be")
    for name in ("differ", "damaged", "cut"):
        write_images(lab / name, 12)
    Image.new("L", (5, 5), 9).save(lab / "differ" / "class2" / "000.png")
    (lab / "damaged" / "class0" / "broken.png").write_bytes(b"no image")
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(lab / "cut" / "class0" / "half.png")
    whole = (lab / "cut" / "class0" / "half.png").read_bytes()
    (lab / "cut" / "class0" / "half.png").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_one_sentence(kind, wrong_files, tmp_path, capsys):
    options, says = WRONG[kind]
    data = [] if "--data" in options else ["--data", "npz:digits.npz"]
    assert main(["search", *data, *options, *FAST, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("supermask: ")
    assert error.endswith(".\n")
    assert error.count("\n") == 1


def test_packages_register_models_and_data_by_name(tmp_path, monkeypatch, capsys):
    entries = {
        "supermask.models": EntryPoint("lab_mlp", ours("mlp"), "supermask.models"),
        "supermask.data": EntryPoint("lab_floats", ours("floats"), "supermask.data"),
    }
    real = importlib.metadata.entry_points

    def found(*, group, name=None):
        own = [entry for entry in [entries.get(group)] if entry is not None and name in (None, entry.name)]
        return own or real(group=group) if name is None else own

    monkeypatch.setattr(imported, "entry_points", found)
    out = tmp_path / "run"
    assert main(["search", "--model", "lab_mlp", "--data", "lab_floats", *FAST, "--out", str(out)]) == 0
    ticket = str(out / "network.ticket")
    capsys.readouterr()
    assert main(["evaluate", ticket, "--data", "lab_floats", "--device", "cpu"]) == 2
    assert "give --model lab_mlp to import it" in capsys.readouterr().err
    assert main(["evaluate", ticket, "--data", "lab_floats", "--model", "lab_mlp", "--device", "cpu"]) == 0


def test_judge_controls_export_and_inspect_take_an_own_network(tmp_path, capsys):
    data, model = EVERY_KIND["npz"]
    asked = ["--data", data, "--model", model]
    assert main(["search", *asked, *FAST, "--out", str(tmp_path / "run")]) == 0
    ticket = str(tmp_path / "run" / "network.ticket")
    judged = ["judge", ticket, *asked, "--minutes", "0.1", "--device", "cpu", "--out", str(tmp_path / "judge")]
    assert main(judged) == 0
    commands = json.loads((tmp_path / "judge" / "judge.json").read_text())["commands"]
    assert f"--model {model}" in commands["accuracy"]
    controls = ["compare", "--ticket", ticket, *asked, "--seeds", "1", "--epochs", "0", "--device", "cpu"]
    assert main([*controls, "--out", str(tmp_path / "controls")]) == 0
    exported = ["export", ticket, "--model", model, "--format", "torch_export", "--out", str(tmp_path / "out")]
    assert main(exported) == 0
    assert json.loads((tmp_path / "out" / "export.json").read_text())["input_shape"] == [1, 8, 8]
    assert main(["inspect", ticket]) == 0
    assert model in capsys.readouterr().out


def test_judge_and_controls_train_by_the_loss_of_the_ticket(tmp_path, capsys, monkeypatch):
    for module, name, few in (
        (trained_controls, "SEEDS", (1,)),
        (trained_controls, "LONGEST", 1),
        (instability, "COPIES", (2,)),
        (instability, "POINTS", (3,)),
    ):
        monkeypatch.setattr(module, name, few)
    data, model = EVERY_KIND["npz"]
    asked = ["--data", data, "--model", model, "--device", "cpu"]
    margin = ["--loss", "torch.nn:MultiMarginLoss"]
    out, judge = tmp_path / "run", tmp_path / "judge"
    searched = ["--epochs", "1", "--batch-size", "16", "--out", str(out)]
    assert main(["search", *asked, *margin, *searched]) == 0
    ticket = str(out / "network.ticket")
    judged = ["judge", ticket, *asked, "--minutes", "5", "--out", str(judge)]
    short = ["--seeds", "1", "--epochs", "0", "--out", str(tmp_path / "beside")]
    compared = ["compare", "--ticket", ticket, *asked, *short]
    for command in (judged, compared):
        assert main(command) == 2
        assert "was found by the loss 'torch.nn:MultiMarginLoss'" in capsys.readouterr().err
        assert main([*command, *margin]) == 0
    for folder in (judge, tmp_path / "beside"):
        settings = [json.loads(path.read_text()) for path in folder.rglob("*/config.json")]
        trained = [each for each in settings if "recipe" in each]
        assert trained
        assert {each["loss"] for each in trained} == {"torch.nn:MultiMarginLoss"}
    commands = json.loads((judge / "judge.json").read_text())["commands"]
    assert "--loss torch.nn:MultiMarginLoss" in commands["trained_controls"]


def test_judge_refuses_what_has_no_classes(tmp_path, capsys):
    data, model = EVERY_KIND["text"]
    assert main(["search", "--data", data, "--model", model, *FAST, "--epochs", "0", "--out", str(tmp_path)]) == 0
    assert main(["judge", str(tmp_path / "network.ticket"), "--data", data, "--device", "cpu"]) == 2
    assert "has not one class for each example" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "network.ticket"), "--format", "torch_export"]) == 0


def test_construct_takes_an_own_network(tmp_path, capsys):
    asked = ["--data", "npz:digits.npz", "--model", ours("mlp")]
    assert main(["train", *asked, *FAST, "--out", str(tmp_path / "run")]) == 0
    built = ["construct", "--target", str(tmp_path / "run"), "--epsilon", "0.5", "--out", str(tmp_path / "built")]
    capsys.readouterr()
    assert main(built) == 2
    assert "give --model too, to import it" in capsys.readouterr().err
    assert main([*built, *asked]) == 0
    assert Ticket.load(tmp_path / "built" / "network.ticket").provenance["data"] == "npz:digits.npz"
