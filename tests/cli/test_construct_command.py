"""`supermask construct`: from a target's file to a ticket that the other commands take."""

import json
import math
from itertools import pairwise
from typing import get_args, get_type_hints

import pytest
import safetensors.torch
import torch
from torch import nn

from supermask import Ticket, data, models
from supermask.cli import main
from supermask.models.sequence import from_description
from theory import construct
from theory.cli import Construct, command
from theory.constructions import CONSTRUCTIONS
from theory.domains import Nonnegative

QUICK = ["--threads", "1", "--out", "here"]
DIGITS = ["--data", "digits", "--epsilon", "2"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch, blank_plots):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPERMASK_DATA", raising=False)


def status(*arguments):
    """Return the exit status of the command line."""
    try:
        return main(list(arguments))
    except SystemExit as end:
        return end.code


def built(*arguments):
    """Return what a construction that succeeds wrote as JSON."""
    assert status("construct", *QUICK, *arguments) == 0
    return read("here/construction.json")


def read(path):
    with open(path) as file:
        return json.load(file)


def layers(*sizes, bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        state[f"fc{i}.weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        if bias:
            state[f"fc{i}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    return state


def written(state, name="target.pt"):
    if name.endswith(".safetensors"):
        safetensors.torch.save_file(state, name)
    else:
        torch.save(state, name)
    return name


def network_of(state):
    """Return the ReLU network of a state dict of `layers`, written down by hand."""
    modules = [nn.Flatten()]
    for name in [name for name in state if name.endswith("weight")]:
        bias = state.get(name.replace("weight", "bias"))
        linear = nn.Linear(*reversed(state[name].shape), bias=bias is not None).double()
        linear.weight.data.copy_(state[name])
        if bias is not None:
            linear.bias.data.copy_(bias)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def ticket():
    return Ticket.load("here/network.ticket")


def same_tickets(one, other):
    return one.digest == other.digest and all(torch.equal(mask, other.masks[name]) for name, mask in one.masks.items())


@pytest.mark.parametrize("bias", [True, False])
def test_a_file_of_matrices_becomes_a_ticket_a_plot_and_a_certificate(bias, tmp_path, capsys):
    state = layers(6, 5, 3, bias=bias)
    found = built("--target", written(state), "--seed", "3", "--epsilon", "0.05")
    here = tmp_path / "here"
    assert {path.name for path in here.iterdir()} == {"network.ticket", "construction.json", "errors.png"}
    assert (here / "errors.png").read_bytes().startswith(b"\x89PNG")
    wanted = construct(network_of(state), 0.05, seed=3, progress=False)
    assert same_tickets(ticket(), wanted.ticket)
    assert found["within"] is True
    assert (found["certificate"]["upper"], found["certificate"]["lower"]) == pytest.approx(
        (wanted.certificate.upper, wanted.certificate.lower), rel=1e-9
    )
    assert len(found["certificate"]["per_layer"]) == 2
    assert [layer["largest"] for layer in found["layers"]] == [errors.max() for errors in wanted.errors]
    assert [layer["weights"] for layer in found["layers"]] == [5 * (6 + bias), 3 * (5 + bias)]
    assert sum(layer["kept"] for layer in found["layers"]) == found["kept"] == ticket().kept
    assert found["bytes"] == (here / "network.ticket").stat().st_size
    assert found["test"] is None
    assert {"versions", "machine", "commit", "seconds"} <= found.keys()
    assert found["options"]["epsilon"] == 0.05
    shown = capsys.readouterr().out
    assert f"| within epsilon 0.05: at most {found['certificate']['upper']:.2g} apart |" in shown
    assert f"{ticket().kept:,} of {ticket().prunable:,}" in shown


def test_the_same_network_from_every_kind_of_file_is_the_same_ticket():
    state = layers(4, *[3] * 10, 2)  # fc10 comes after fc2
    tickets = []
    for name in ("target.pt", "target.pth", "target.safetensors"):
        built("--target", written(state, name), "--hidden", "4")
        tickets.append(ticket())
    assert all(same_tickets(tickets[0], other) for other in tickets)
    assert ticket().provenance["target"] == "target.safetensors"


def test_a_file_fits_a_model_by_the_order_of_its_layers_and_without_biases():
    model = models.build("fc_500", input_shape=(1, 2, 3), classes=3, width=0.01)
    given = ["--model", "fc_500", "--model-width", "0.01", "--input-shape", "1", "2", "3", "--classes", "3"]
    state = layers(6, 5, 3)
    assert [name for name in model.state_dict() if name in state] == []
    built("--target", written(state), *given)
    with_biases = ticket()
    built("--target", written(state))
    assert same_tickets(with_biases, ticket())
    bare = layers(6, 5, 3, bias=False)
    built("--target", written(bare), *given)
    assert same_tickets(ticket(), construct(network_of(bare), 0.01, progress=False).ticket)
    assert all("bias" not in name for name in ticket().masks)


def test_a_file_with_a_models_names_fits_in_any_order():
    model = models.build("fc_500", input_shape=(1, 1, 3), classes=3, width=0.006)
    state = dict(reversed(model.state_dict().items()))
    given = ["--model", "fc_500", "--model-width", "0.006", "--input-shape", "1", "1", "3", "--classes", "3"]
    built("--target", written(state), *given)
    assert same_tickets(ticket(), construct(model, 0.01, input_shape=(1, 1, 3), progress=False).ticket)


def test_weights_of_float64_are_met_as_they_are():
    state = {name: tensor.double() + 1e-12 for name, tensor in layers(2, 1, bias=False).items()}
    found = built("--target", written(state), "--epsilon", "1e-15", "--hidden", "8")
    wanted = construct(network_of(state), 1e-15, width=8, progress=False)
    assert found["layers"][0]["largest"] == wanted.errors[0].max()


def test_a_models_name_is_that_model_freshly_initialised():
    given = ["--model-width", "0.02", "--input-shape", "1", "2", "2", "--classes", "3", "--epsilon", "0.1"]
    before = torch.get_rng_state()
    built("--target", "lenet_300_100", *given, "--seed", "5")
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = models.build("lenet_300_100", input_shape=(1, 2, 2), classes=3, width=0.02)
    assert same_tickets(ticket(), construct(model, 0.1, seed=5, progress=False).ticket)


def test_a_run_folder_is_its_network_as_it_was_measured():
    train = ["--model", "fc_500", "--width", "0.01", "--data", "digits", "--epochs", "2", "--device", "cpu"]
    assert status("train", *train, "--out", "run") == 0
    found = built("--target", "run", *DIGITS)
    assert found["test"]["target_correct"] == read("run/result.json")["test"]["correct"]
    whole = ticket()
    given = ["--model", "fc_500", "--model-width", "0.01"]
    built("--target", "run/network.safetensors", *given, *DIGITS)
    assert same_tickets(ticket(), whole)
    assert ticket().provenance["target"] == "network.safetensors"
    built("--target", "run", "--input-shape", "1", "8", "8", "--classes", "10", "--epsilon", "2", "--radius", "5")


def small_cnn(tmp_path):
    """Write a state dict without biases under foreign names, and return its network."""
    model = models.build("conv2", input_shape=(1, 4, 4), classes=2, width=0.03)
    generator = torch.Generator().manual_seed(0)
    weights = [each for name, each in model.state_dict().items() if name.endswith("weight")]
    state = {f"layer{i}.weight": 0.3 * torch.randn(each.shape, generator=generator) for i, each in enumerate(weights)}
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bias = None
    for parameter, weight in zip(model.parameters(), state.values(), strict=True):
        parameter.data.copy_(weight)
    return written(state), model


def test_a_network_with_convolutions_is_built_from_a_file(tmp_path):
    name, model = small_cnn(tmp_path)
    given = ["--model", "conv2", "--model-width", "0.03", "--input-shape", "1", "4", "4", "--classes", "2"]
    found = built("--target", name, *given, "--construction", "convolution", "--epsilon", "0.5")
    wanted = construct(model, 0.5, construction="convolution", input_shape=(1, 4, 4), progress=False)
    assert same_tickets(ticket(), wanted.ticket)
    assert found["within"]
    network = ticket().apply(from_description(ticket().provenance["model"]["modules"]).double())
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    assert torch.equal(network(x), wanted.network(x))


def test_convolutions_by_another_construction_are_told_which_is_right(tmp_path, capsys):
    name, _ = small_cnn(tmp_path)
    given = ["--model", "conv2", "--model-width", "0.03", "--input-shape", "1", "4", "4", "--classes", "2"]
    assert status("construct", "--target", name, *given) == 2
    assert "use convolution" in capsys.readouterr().err


def test_a_network_that_does_not_fit_says_so_and_is_no_failure(capsys):
    found = built("--target", written(layers(6, 5, 3)), "--hidden", "2")
    assert found["within"] is False
    assert f"not within epsilon 0.01: {found['certificate']['lower']:.2g} apart" in capsys.readouterr().out
    assert found["layers"][0]["above"] > 0
    epsilon = math.sqrt(found["certificate"]["lower"] * found["certificate"]["upper"])
    assert built("--target", "target.pt", "--hidden", "2", "--epsilon", str(epsilon))["within"] is False
    assert "not proven within epsilon" in capsys.readouterr().out


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("pixels", ["normalized", "raw"])
def test_on_a_data_set_both_networks_are_run_and_evaluate_agrees(pixels, norm, capsys):
    state = layers(64, 3, 10)
    found = built("--target", written(state), *DIGITS, "--epsilon", "9", "--pixels", pixels, "--norm", norm)
    digits, network = data.load("digits", validation=0), network_of(state)
    inputs = digits.train.images.float() / 16 if pixels == "raw" else digits.normalize(digits.train.images)
    sizes = inputs.flatten(1).double().norm(dim=1) if norm == "l2" else inputs.flatten(1).abs().amax(1)
    assert found["certificate"]["radius"] == pytest.approx(float(sizes.max()), rel=1e-6)
    test = digits.test()
    inputs = (test.images.float() / 16 if pixels == "raw" else digits.normalize(test.images)).double()
    masked = ticket().apply(from_description(ticket().provenance["model"]["modules"]).double())
    with torch.no_grad():
        wanted, got = network(inputs), masked(inputs)
    measured = found["test"]
    assert measured["total"] == len(test)
    assert measured["target_correct"] == int((wanted.argmax(1) == test.labels).sum())
    assert measured["correct"] == int((got.argmax(1) == test.labels).sum())
    assert measured["disagreements"] == int((wanted.argmax(1) != got.argmax(1)).sum())
    differences = (wanted - got).norm(dim=1) if norm == "l2" else (wanted - got).abs().amax(1)
    assert measured["largest_difference"] == pytest.approx(float(differences.max()), rel=1e-6)
    assert measured["within"] is True
    capsys.readouterr()
    assert status("evaluate", "here/network.ticket", "--device", "cpu") == 0
    evaluated = read("here/evaluation.json")
    assert (evaluated["correct"], evaluated["data"]) == (measured["correct"], "digits")
    assert evaluated["loss"] == pytest.approx(float(nn.functional.cross_entropy(got, test.labels)), rel=1e-4)


def test_images_outside_of_the_ball_and_differences_above_epsilon_are_told(capsys):
    found = built("--target", written(layers(64, 3, 10)), "--data", "digits", "--radius", "8", "--hidden", "2")
    test = data.load("digits").normalize(data.load("digits").test().images).flatten(1)
    assert 0 < found["test"]["outside"] == int((test.double().norm(dim=1) > 8).sum()) < len(test)
    assert found["test"]["within"] is False
    assert found["test"]["disagreements"] > 0
    assert "not within epsilon" in capsys.readouterr().out.split("largest difference there")[1]


def test_pixels_from_0_on_take_half_of_the_first_blocks(capsys):
    asked = ["--target", written(layers(64, 3, 10)), "--data", "digits", "--hidden", "20", "--pixels"]
    whole = built(*asked, "raw")
    half = built(*asked, "raw", "--domain", "nonnegative")
    assert half["test"]["outside"] == 0
    assert half["layers"][0]["kept"] < 0.7 * whole["layers"][0]["kept"]
    assert "none negative" in capsys.readouterr().out
    test = data.load("digits").test()
    negative = (data.load("digits").normalize(test.images).flatten(1) < 0).any(1)
    assert built(*asked, "normalized", "--domain", "nonnegative")["test"]["outside"] == int(negative.sum()) > 0


def test_inspect_shows_what_a_built_ticket_is(capsys):
    found = built("--target", written(layers(6, 5, 3)), "--hidden", "31", "--epsilon", "0.25")
    capsys.readouterr()
    assert status("inspect", "here/network.ticket", "--out", "there") == 0
    shown = capsys.readouterr().out
    bounds = f"upper {found['certificate']['upper']:.4g}, lower {found['certificate']['lower']:.4g}"
    for part in ("relu_diamond", "epsilon 0.25, radius 1, norm l2", "31, 31", bounds, "target.pt", "normalized"):
        assert f" {part} |" in shown
    assert "Linear" not in shown
    assert read("there/inspection.json")["provenance"]["certificate"]["upper"] == found["certificate"]["upper"]


def test_every_option_reaches_the_construction(monkeypatch):
    seen = {}

    def stop(target, epsilon, **options):
        seen.update(options, epsilon=epsilon)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "construct", stop)
    more = ["--construction", "malach", "--hidden", "7", "--radius", "3", "--norm", "linf", "--domain", "nonnegative"]
    asked = ["--target", written(layers(6, 5, 3)), *more, "--both-halves", "--grouped", "--calibrate", "--seed", "4"]
    assert status("construct", *asked) == 130
    assert seen == {
        "epsilon": 0.01,
        "construction": "malach",
        "width": 7,
        "domain": Nonnegative(3.0),
        "norm": "linf",
        "both_halves": True,
        "grouped": True,
        "calibrate": True,
        "seed": 4,
        "input_shape": None,
    }


def test_ctrl_c_ends_quietly_and_leaves_no_file(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    written(layers(6, 5, 3))
    for place in ("construct", "plot_errors"):
        with monkeypatch.context() as patch:
            patch.setattr(command, place, stop)
            assert status("construct", *QUICK, "--target", "target.pt") == 130
        assert capsys.readouterr().err == "supermask: interrupted.\n"
        assert {path.name for path in (tmp_path / "here").iterdir()} <= {"network.ticket"}
    Ticket.load("here/network.ticket")


def test_the_same_command_makes_the_same_ticket(tmp_path):
    written(layers(6, 5, 3))
    assert status("construct", "--target", "target.pt", "--threads", "1") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    before = (folder / "network.ticket").read_bytes()
    assert status("construct", "--target", "target.pt", "--threads", "1") == 0
    assert (folder / "network.ticket").read_bytes() == before
    assert folder.name == f"construct-{tmp_path.name}-target-relu_diamond-epsilon0.01-seed0"


def test_a_folder_of_another_run_is_left_alone(tmp_path, capsys):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/config.json").write_text("{}")
    assert status("construct", *QUICK, "--target", written(layers(6, 5, 3))) == 2
    assert "here holds a run; give another --out" in capsys.readouterr().err


def test_the_constructions_are_those_of_theory():
    assert get_args(get_type_hints(Construct)["construction"]) == tuple(CONSTRUCTIONS)
