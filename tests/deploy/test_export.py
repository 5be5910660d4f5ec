"""What is written computes what the network does, for any number of examples, or is not written."""

from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from supermask import EdgePopup, SupermaskError, models
from supermask.deploy import FORMATS, export, formats, narrow


class Tied(nn.Module):
    """An autoencoder whose decoder is the encoder's transpose, and two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.encoder, self.middle, self.again = nn.Linear(12, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.again.weight = self.middle.weight

    def forward(self, x):
        hidden = self.again(self.middle(self.encoder(x)).relu()).relu()
        return nn.functional.linear(hidden, self.encoder.weight.t())


NETWORKS = {
    "lenet_300_100": (partial(models.build, "lenet_300_100"), (1, 28, 28), {}),
    "lenet5": (partial(models.build, "lenet5"), (1, 28, 28), {"bias": "frozen"}),
    "conv2": (partial(models.build, "conv2", width=0.25), (3, 32, 32), {}),
    "resnet20": (partial(models.build, "resnet20", width=0.25), (3, 16, 16), {}),
    "bypassed": (partial(models.build, "resnet20", width=0.25), (3, 16, 16), {"norm": "none"}),
    "tied": (Tied, (12,), {}),
}


def network(name, *, density=0.3):
    build, shape, options = NETWORKS[name]
    search = EdgePopup(build(), density=density, seed=3, **options)
    return search.ticket().apply(build()).eval(), shape


def example(shape):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def run_onnx(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": images.numpy()})[0])


RUN = {"onnx": run_onnx, "torch_export": lambda path, images: torch.export.load(path).module()(images)}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("format", FORMATS)
@torch.no_grad()
def test_a_ticket_computes_what_its_network_does(name, format, tmp_path):
    model, shape = network(name)
    exported = export(model, path := tmp_path / "network", example=example(shape), format=format)
    assert (exported.path, exported.bytes, exported.input_shape) == (path, path.stat().st_size, shape)
    for count in (1, 7):
        images = torch.randn(count, *shape)
        expected = model(images)
        largest = float(expected.abs().max())
        torch.testing.assert_close(RUN[format](path, images), expected, rtol=0, atol=2e-6 * largest)
    assert exported.difference <= exported.allowed
    assert exported.allowed < 3e-6
    assert [file.name for file in tmp_path.iterdir()] == ["network"]


def test_the_file_is_onnx_with_a_batch_of_any_size_and_the_masks_zeros(tmp_path):
    model, shape = network("lenet5")
    export(model, tmp_path / "network.onnx", example=example(shape))
    proto = onnx.load(tmp_path / "network.onnx")
    onnx.checker.check_model(proto, full_check=True)
    (image,), (logits,) = proto.graph.input, proto.graph.output
    assert image.name == "input"
    assert [size.dim_param or size.dim_value for size in image.type.tensor_type.shape.dim] == ["batch", 1, 28, 28]
    assert [size.dim_param or size.dim_value for size in logits.type.tensor_type.shape.dim] == ["batch", 10]
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert np.array_equal(weights["features.3.weight"], model.features[3].weight.detach().numpy())
    assert (weights["features.3.weight"] != 0).mean() == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
@torch.no_grad()
def test_without_dead_units(name, tmp_path):
    model, shape = network(name, density=0.03)
    narrowed = narrow(model, example(shape))
    export(narrowed.network, tmp_path / "small", example=example(shape), format="torch_export")
    images = torch.randn(5, *shape)
    expected = model(images)
    found = torch.export.load(tmp_path / "small").module()(images)
    assert narrowed.removed > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_inputs_of_integers_and_networks_that_have_several_results(tmp_path):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, x):
            y = self.words(x).mean(1)
            return y, {"logits": self.out(y)}

    given = torch.tensor([[1, 2, 8], [0, 5, 5]])
    for format in FORMATS:
        exported = export(Words(), tmp_path / "words", example=given, format=format)
        assert exported.input_shape == (3,)


def test_a_network_is_left_as_it_was(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    shape = (1, 3, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export(model, tmp_path / "network", example=example(shape), format="torch_export")
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_other_numbers_are_refused_and_nothing_is_written(tmp_path, monkeypatch):
    model, shape = network("lenet_300_100")
    right = FORMATS["torch_export"]

    def slightly_wrong(data):
        run = right.decode(data)
        return lambda images: [output + 3e-6 * output.abs().max() for output in run(images)]

    def wrong_shape(data):
        run = right.decode(data)
        return lambda images: [output[:1] for output in run(images)]

    for decode in (slightly_wrong, wrong_shape, lambda data: lambda images: []):
        wrong = formats.Format(".pt2", (), right.encode, decode)
        monkeypatch.setattr(formats, "FORMATS", {"wrong": wrong})
        with pytest.raises(SupermaskError, match=r"written as wrong gives other numbers .* nothing was written\.$"):
            export(model, tmp_path / "network", example=example(shape), format="wrong")
        assert list(tmp_path.iterdir()) == []


def test_nan_is_a_difference(tmp_path, monkeypatch):
    right = FORMATS["torch_export"]
    wrong = formats.Format(".pt2", (), right.encode, lambda _: lambda images: [torch.full((len(images), 2), torch.nan)])
    monkeypatch.setattr(formats, "FORMATS", {"wrong": wrong})
    with pytest.raises(SupermaskError, match="gives other numbers"):
        export(nn.Linear(3, 2), tmp_path / "network", example=example((3,)), format="wrong")


class Batched(nn.Module):
    def forward(self, x):
        return x.view(2, -1)


class Choosing(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        (nn.Linear(3, 2), {"format": "tflite"}, r"Unknown format 'tflite'; known are onnx, torch_export\."),
        (nn.Linear(3, 2), {"example": torch.ones(1, 3)}, r"example has shape \(1, 3\); give two examples or more"),
        (nn.Linear(4, 2), {}, r"cannot be written as one graph \(.*\); that needs a forward pass"),
        (Batched(), {}, r"cannot be written as one graph"),
        (Choosing(), {}, r"cannot be written as one graph"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), {}, r"still computed from others; give a plain"),
    ],
)
def test_refused_in_one_sentence(model, options, says, tmp_path):
    with pytest.raises(SupermaskError, match=says) as caught:
        export(model, tmp_path / "network", **{"example": example((3,)), "format": "torch_export", **options})
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named_with_what_brings_them(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name in ("onnx", "onnxruntime") else "there")
    with pytest.raises(
        SupermaskError, match=r"onnx needs onnx, onnxruntime, which .*pip install 'supermask\[export\]'"
    ):
        export(nn.Linear(3, 2), tmp_path / "network", example=example((3,)))
    export(nn.Linear(3, 2), tmp_path / "network", example=example((3,)), format="torch_export")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SupermaskError, match="nowhere"):
        export(nn.Linear(3, 2), tmp_path / "nowhere/network", example=example((3,)), format="torch_export")


def test_where_float32_itself_is_coarse_the_network_is_the_measure(tmp_path):
    """Large numbers that cancel: two orders of summation differ by more than 1e-6 of what is left."""
    model = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 4))
    with torch.no_grad():
        model[1].weight[:, 256:] = -model[1].weight[:, :256]
        model[0].weight[256:] = model[0].weight[:256] * (1 + 1e-4)
        model[0].bias.fill_(100)
    exported = export(model, tmp_path / "network", example=example((512,)), format="torch_export")
    assert exported.allowed == 4 * exported.rounding > 1e-6


class Two(nn.Module):
    """Two inputs, with a hidden unit that nothing goes into and nothing reads."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 5), nn.Linear(4, 5), nn.Linear(5, 3)
        with torch.no_grad():
            for part in (self.first.weight[2], self.second.weight[2], self.last.weight[:, 2]):
                part.zero_()

    def forward(self, u, v):
        return self.last(torch.relu(self.first(u) + self.second(v)))


def several():
    u, v = example((6,)), example((4,))
    return {"a tuple": (u, v), "a dictionary": {"u": u, "v": v}, "another order": {"v": v, "u": u}}


@pytest.mark.parametrize("kind", several())
@pytest.mark.parametrize("format", FORMATS)
def test_several_inputs_are_exported_and_narrowed(kind, format, tmp_path):
    model, given = Two().eval(), several()[kind]
    assert export(model, tmp_path / "network", example=given, format=format).difference < 1e-6
    narrowed = narrow(model, given)
    assert narrowed.units["first"] == narrowed.units["second"] == (4, 5)
    u, v = example((6,)), example((4,))
    torch.testing.assert_close(narrowed.network(u, v), model(u, v))


def test_inputs_of_different_numbers_of_examples_are_refused(tmp_path):
    with pytest.raises(SupermaskError, match=r"shape \(2, 6\), \(3, 4\); give two examples or more, of every input"):
        export(Two(), tmp_path / "network", example=(torch.ones(2, 6), torch.ones(3, 4)))


class Depending(nn.Module):
    """Its shapes depend on numbers, as those of a detector do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        print("on the way")
        found = self.layer(x[x[:, 0] > 0])
        return found if len(found) > 1 else x


@pytest.mark.parametrize("use", [narrow, lambda model, x: export(model, "nowhere", example=x)])
def test_a_refusal_prints_nothing(use, capfd):
    with pytest.raises(SupermaskError, match="cannot be written as one graph"):
        use(Depending(), torch.randn(3, 4))
    assert capfd.readouterr() == ("", "")
