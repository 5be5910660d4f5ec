"""The target is read as it runs: the layers' algebra is the module's own forward pass, or the module is refused."""

import pytest
import torch
from torch import nn

from supermask import models
from supermask.errors import SupermaskError
from theory.target import TargetLayer, read_target


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def lenet(**options):
    return models.build("lenet5", **options)


TARGETS = {
    "one layer": (lambda: nn.Sequential(nn.Linear(4, 2)), (4,)),
    "a bias in one layer only": (lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2)), (4,)),
    "ends with a ReLU": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2), nn.ReLU()), (4,)),
    "lenet_300_100": (lambda: models.build("lenet_300_100"), (784,)),
    "lenet5": (lenet, (1, 28, 28)),
    "lenet5 on 32": (lambda: lenet(input_shape=(3, 32, 32)), (3, 32, 32)),
    "conv2": (lambda: models.build("conv2", width=0.1), (3, 32, 32)),
    "conv6": (lambda: models.build("conv6", width=0.1), (3, 32, 32)),
    "a stride, a dilation and averages": (
        lambda: nn.Sequential(
            nn.ZeroPad2d((1, 0, 2, 1)),
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)),
            nn.AvgPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 2),
        ),
        (2, 7, 7),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("build", "shape"), TARGETS.values(), ids=TARGETS.keys())
def test_layers_compute_what_the_module_computes(build, shape):
    torch.manual_seed(0)
    module = build().double().eval()
    target, x = read_target(module), 3.0 * noise(5, *shape)
    assert target.input_shape == shape
    torch.testing.assert_close(target(x), module(x), rtol=0.0, atol=1e-12)


def test_layers_hold_the_weights_exactly_in_float64():
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
    first, last = read_target(module).layers
    assert first.kernel.dtype == "float64"
    assert (first.kernel[:, :, 0, 0] == module[0].weight.detach().double().numpy()).all()
    assert (first.offset == module[0].bias.detach().double().numpy()).all()
    assert (first.inputs, first.outputs, first.signed) == (4, 3, True)
    assert (last.inputs, last.outputs, last.signed) == (3, 2, False)
    assert last.bias is None
    assert (last.offset == 0.0).all()


def test_only_a_relu_makes_inputs_that_are_never_negative():
    relu, pool = nn.ReLU(), nn.MaxPool2d(2)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), pool, nn.Conv2d(2, 2, 3, padding=1), relu, pool, nn.Conv2d(2, 2, 1),
        nn.Flatten(), nn.Linear(8, 3), relu, nn.Linear(3, 2),
    )  # fmt: skip
    target = read_target(module)
    assert target.input_shape == (1, 8, 8)
    assert [layer.signed for layer in target.layers] == [True, True, False, True, False]


@pytest.mark.parametrize("size", [(5, 9), (8, 6)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_sizes_are_those_of_the_convolution(size, stride, dilation):
    module = nn.Sequential(nn.Conv2d(2, 3, (2, 3), stride=stride, dilation=dilation)).double()
    (layer,) = read_target(module, (2, *size)).layers
    assert layer.output_shape == module(noise(1, 2, *size)).shape[1:]
    assert layer.places == layer.output_size[0] * layer.output_size[1]
    assert layer.taps == 6


def test_a_shape_that_is_given_is_taken():
    assert read_target(lenet(), (1, 29, 29)).input_shape == (1, 29, 29)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    assert read_target(flat).input_shape == (12,)
    assert read_target(flat, (3, 2, 2))(noise(4, 3, 2, 2)).shape == (4, 2)
    assert read_target(flat, (3, 4))(noise(4, 3, 4)).shape == (4, 2)
    assert isinstance(read_target(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 5, 7)).layers[0], TargetLayer)


CONV = nn.Conv2d(3, 4, 3)


@pytest.mark.parametrize(
    ("module", "shape", "sentence"),
    [
        (nn.Sequential(CONV, nn.ReLU()), None, "takes images of any size; give input_shape"),
        (nn.Sequential(CONV, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), None, "of any size; give input"),
        (nn.Sequential(CONV, nn.Flatten(), nn.Linear(4 * 5, 2)), None, "No square image of up to 512 pixels fits"),
        (nn.Sequential(CONV), (1, 8, 8), "The target's 0 takes images of 3 channels, but gets images of 1"),
        (nn.Sequential(CONV), (8, 8), "0 takes images, but gets sequences; images have the shape"),
        (nn.Sequential(CONV), (3, 2, 8), "0 is a 3x3 Conv2d that does not take 3x2x8 images"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2)), (3, 8, 4), "0 is a 5x5 Conv2d that does not take 3x8x4 images"),
        (nn.Sequential(CONV, nn.MaxPool2d(4)), (3, 4, 4), "s 1 is a MaxPool2d that does not take 4x2x2 images"),
        (nn.Sequential(nn.Linear(3, 2)), (4,), "takes 3 inputs, but gets 4"),
        (nn.Sequential(nn.Linear(3, 2)), (1, 1, 3), "0 takes vectors, but gets images; put an nn.Fl"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (3, 5), "1 takes 12 inputs, but gets 15"),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 2)), None, "of any size; give input_shape"),
        (nn.Sequential(CONV, nn.AvgPool2d(2, divisor_override=-2)), (3, 4, 4), "1 divides by -2; give a divisor"),
        (
            nn.Sequential(CONV, nn.MaxPool2d(2, stride=1, padding=1, dilation=3)),
            (3, 4, 4),
            "some window of 4x2x2 images is all padding",
        ),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(5, 2)), None, "2 takes 5 inputs, but gets 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_in_one_sentence(module, shape, sentence):
    with pytest.raises(SupermaskError, match=sentence) as caught:
        read_target(module, shape)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
