import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import models
from supermask.errors import SupermaskError
from supermask.models.shape import scaled

ALL = models.known()
RESIDUAL = [name for name in ALL if "resnet" in name]
DIAMONDS = [name for name in ALL if "diamond" in name]
# the narrowest of each family, for the tests that run the network
SMALL = 0.125


def on_meta(name, **options):
    """Build without drawing or storing the weights: enough to count them."""
    with torch.device("meta"):
        return models.build(name, **options)


def weights_of(model, kind=(nn.Conv2d, nn.Linear)):
    return sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, kind))


def parameters_of(model):
    return sum(parameter.numel() for parameter in model.parameters())


def images(input_shape, batch=2, seed=0):
    return torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(seed))


# ---- counts


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("lenet_300_100", 266_200),
        ("lenet5", 61_470),
        ("lenet5_caffe", 430_500),
        ("small_conv", 28_944),
        ("small_vgg", 102_432),
        ("tiny_conv", 18_320),
        ("fc_500", 397_000),
        ("conv2", 4_300_992),
        ("conv4", 2_425_024),
        ("conv6", 2_261_184),
        ("conv8", 5_275_840),
        ("resnet20", 270_896),
        ("vgg11", 9_222_848),
        ("vgg16", 14_715_584),
        ("vgg19", 20_024_000),
    ],
)
def test_weights_without_biases_and_batch_norm_are_those_of_the_papers(name, weights):
    assert weights_of(on_meta(name)) == weights


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # authors' and reimplementations' exact counts, CIFAR-10
        ("wide_resnet_28_10", 36_479_194),
        ("wide_resnet_16_8", 10_961_370),
        ("wide_resnet_40_2", 2_243_546),
        ("wide_resnet_28_2", 1_467_610),
        # reimplementations' exact counts, CIFAR-10
        ("resnet18", 11_173_962),
        ("mobilenet", 3_217_226),
        ("lenet5", 61_706),
        ("lenet5_caffe", 431_080),
        ("lenet_300_100", 266_610),
    ],
)
def test_parameters_are_those_of_the_papers(name, parameters):
    assert parameters_of(on_meta(name)) == parameters


# He et al. 2016, table 6; Zagoruyko & Komodakis 2016, tables 1 and 4
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet20", 0.27),
        ("resnet32", 0.46),
        ("resnet56", 0.85),
        ("wide_resnet_40_2", 2.2),
        ("wide_resnet_28_10", 36.5),
        ("wide_resnet_16_8", 11.0),
        ("wide_resnet_22_2", 1.1),
    ],
)
def test_parameters_are_the_rounded_ones_that_the_papers_print(name, millions):
    digits = len(str(millions).split(".")[1])
    assert parameters_of(on_meta(name)) / 1e6 == pytest.approx(millions, abs=10**-digits)


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_resnet_has_the_layers_of_its_name(depth):
    model = on_meta(f"resnet{depth}")
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    main = [layer for layer in convolutions if layer.kernel_size == (3, 3)]
    shortcuts = [layer for layer in convolutions if layer.kernel_size == (1, 1)]
    blocks = (depth - 2) // 6
    assert len(main) + 1 == depth
    assert sum(layer.weight.numel() for layer in shortcuts) == 16 * 32 + 32 * 64 == 2_560
    assert model.fc.weight.numel() == 640
    stage = [2 * blocks * 9 * units**2 for units in (16, 32, 64)]
    # the first convolution of stages 2 and 3 reads half as many channels
    expected = 9 * 3 * 16 + sum(stage) - 9 * 16 * 32 - 9 * 32 * 64
    assert sum(layer.weight.numel() for layer in main) == expected


@pytest.mark.parametrize(("depth", "factor"), [(16, 8), (22, 2), (28, 2), (28, 10), (40, 2)])
def test_wide_resnet_has_the_layers_and_channels_of_its_name(depth, factor):
    model = on_meta(f"wide_resnet_{depth}_{factor}")
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert sum(layer.kernel_size == (3, 3) for layer in convolutions) + 4 == depth + 1
    assert convolutions[0].out_channels == 16
    ends = [stage[-1].conv2.out_channels for stage in (model.stage1, model.stage2, model.stage3)]
    assert ends == [16 * factor, 32 * factor, 64 * factor]


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30)),
    classes=st.integers(1, 50),
    width=st.floats(0.001, 3),
)
@settings(max_examples=30, deadline=None)
def test_lenet_300_100_follows_its_formula(shape, classes, width):
    model = on_meta("lenet_300_100", input_shape=shape, classes=classes, width=width)
    first, second = max(1, round(300 * width)), max(1, round(100 * width))
    inputs = shape[0] * shape[1] * shape[2]
    assert weights_of(model) == inputs * first + first * second + second * classes
    assert parameters_of(model) == weights_of(model) + first + second + classes


@pytest.mark.parametrize("depth", [2, 4, 6, 8])
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_conv_nets_follow_their_formula(depth, width):
    model = on_meta(f"conv{depth}", input_shape=(1, 40, 20), classes=7, width=width)
    channels = [int(width * units) for units in (64, 64, 128, 128, 256, 256, 512, 512)[:depth]]
    convolutions = sum(9 * a * b for a, b in zip([1, *channels], channels, strict=False))
    hidden, pool = int(256 * width), 2 ** (depth // 2)
    flat = channels[-1] * (40 // pool) * (20 // pool)
    assert weights_of(model) == convolutions + flat * hidden + hidden**2 + 7 * hidden


@pytest.mark.parametrize("width", [0.3, 1.0, 1.5])
def test_small_conv_follows_its_formula_and_has_nothing_else_to_keep(width):
    model = on_meta("small_conv", input_shape=(2, 28, 40), classes=7, width=width)
    first, second, third = (round(units * width) for units in (16, 32, 48))
    convolutions = 25 * 2 * first + 25 * first * second + 9 * second * third
    assert weights_of(model) == parameters_of(model) == convolutions + 7 * third * 2 * 5
    assert not list(model.buffers())


@pytest.mark.parametrize("width", [0.3, 1.0, 1.5])
def test_small_vgg_follows_its_formula_and_has_nothing_else_to_keep(width):
    model = on_meta("small_vgg", input_shape=(2, 28, 40), classes=7, width=width)
    first, second, third = (round(units * width) for units in (32, 48, 64))
    convolutions = 25 * 2 * first + 9 * (first * second + second**2 + second * third + third**2)
    assert weights_of(model) == parameters_of(model) == convolutions + 7 * third * 2 * 5
    assert not list(model.buffers())


def test_small_conv_does_not_read_how_strong_an_image_is():
    model = models.build("small_conv", width=SMALL).double()
    batch = images((1, 28, 28)).double()
    torch.testing.assert_close(model(5 * batch), model(batch), rtol=1e-3, atol=1e-3)  # but for the norm's epsilon
    assert not torch.allclose(model(-batch), model(batch), rtol=1e-3, atol=1e-3)


# ---- shapes


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("input_shape", "classes", "width"),
    [(None, 10, SMALL), ((1, 28, 28), 3, SMALL), ((3, 32, 32), 100, 0.07), ((2, 25, 30), 1, 0.001)],
)
def test_logits_have_the_shape_asked_for(name, input_shape, classes, width):
    model = models.build(name, input_shape=input_shape, classes=classes, width=width)
    logits = model(images(input_shape or models.MODELS[name].input_shape, batch=3))
    assert logits.shape == (3, classes)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("lenet5", 12),
        ("lenet5_caffe", 16),
        ("small_conv", 24),
        ("small_vgg", 24),
        ("tiny_conv", 16),
        ("conv2", 2),
        ("conv4", 4),
        ("conv6", 8),
        ("conv8", 16),
    ],
)
def test_the_smallest_input_works_and_one_pixel_less_is_refused(name, least):
    model = models.build(name, input_shape=(1, least, least), width=SMALL)
    assert model(images((1, least, least))).shape == (2, 10)
    for shape in [(1, least - 1, 32), (1, 32, least - 1)]:
        with pytest.raises(SupermaskError, match=rf"^Cannot build {name}: .* must be at least {least}\.$"):
            models.build(name, input_shape=shape)


@pytest.mark.parametrize("name", ["lenet_300_100", "fc_500", *DIAMONDS, *RESIDUAL])
def test_networks_without_pooling_stages_take_one_pixel(name):
    assert models.build(name, input_shape=(3, 1, 1), width=0.05)(images((3, 1, 1))).shape == (2, 10)


def test_the_small_digits_fit_the_perceptron():
    model = models.build("lenet_300_100", input_shape=(1, 8, 8))
    assert [tuple(layer.weight.shape) for layer in (model.fc1, model.fc2, model.fc3)] == [
        (300, 64),
        (100, 300),
        (10, 100),
    ]


@given(units=st.integers(1, 2048), width=st.floats(1e-9, 100))
def test_scaled_widths_are_the_nearest_integer_of_at_least_one(units, width):
    assert scaled(units, width) >= 1
    assert abs(scaled(units, width) - max(1.0, units * width)) <= 0.5


@pytest.mark.parametrize("name", ALL)
def test_width_scales_every_hidden_layer_and_neither_end(name):
    once, half = on_meta(name), on_meta(name, width=0.5)
    layers = [
        [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)] for model in (once, half)
    ]
    outputs = [[layer.weight.shape[0] for layer in group] for group in layers]
    assert [round(units / 2) for units in outputs[0][:-1]] == outputs[1][:-1]
    assert outputs[0][-1] == outputs[1][-1] == 10
    assert layers[0][0].weight.shape[1] == layers[1][0].weight.shape[1]


# ---- behaviour


@pytest.mark.parametrize("name", ALL)
def test_layers_are_registered_in_the_order_that_they_run(name):
    model = models.build(name, width=SMALL).eval()
    leaves = [module for module in model.modules() if not list(module.children())]
    ran = []
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, *_: ran.append(module))
    model(images(models.MODELS[name].input_shape, batch=1))
    # each exactly once: no module is shared, none is left out
    assert [id(leaf) for leaf in ran] == [id(leaf) for leaf in leaves]


@pytest.mark.parametrize("name", ALL)
def test_biases_everywhere_but_in_convolutions_beside_batch_norm(name):
    model = on_meta(name)
    normed = any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert normed == (name in RESIDUAL or name in ("plain8", "vgg11", "vgg16", "vgg19", "mobilenet"))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bare = name in ("small_conv", "small_vgg", "tiny_conv") or (normed and isinstance(layer, nn.Conv2d))
            assert (layer.bias is None) == bare


@pytest.mark.parametrize("name", ALL)
def test_evaluation_is_deterministic_and_reads_each_image_alone(name):
    shape = models.MODELS[name].input_shape
    model = models.build(name, width=SMALL).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch = images(shape, batch=3)
    with torch.no_grad():
        first, second, alone = model(batch), model(batch), model(batch[1:2])
    assert torch.equal(first, second)
    torch.testing.assert_close(first[1:2], alone)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ALL)
def test_the_generator_alone_decides_the_weights(name):
    def drawn(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return models.build(name, width=SMALL).state_dict()

    first, second, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_reaches_every_parameter(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.build(name, width=SMALL)
    model(images(models.MODELS[name].input_shape, batch=4)).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize(
    "name",
    [
        *("lenet_300_100", "lenet5", "lenet5_caffe", "small_conv", "small_vgg", "tiny_conv", *DIAMONDS),
        *("conv2", "resnet20", "wide_resnet_16_8"),
    ],
)
def test_exported_network_computes_the_same(name):
    model = models.build(name, width=SMALL).eval()
    batch = images(models.MODELS[name].input_shape)
    exported = torch.export.export(model, (batch,)).module()
    torch.testing.assert_close(exported(batch), model(batch))


def test_identity_shortcuts_pass_the_input_through():
    plain = models.build("resnet20", width=SMALL).eval().stage1[1]
    wide = models.build("wide_resnet_16_8", width=SMALL).eval().stage1[1]
    for block in (plain, wide):
        nn.init.zeros_(block.conv2.weight)
    x = images((2, 5, 5)) - 0.5
    assert torch.equal(plain(x), x.relu())
    x = images((16, 5, 5)) - 0.5
    assert torch.equal(wide(x), x)


def test_projection_shortcuts_of_wide_networks_read_the_activated_input():
    block = models.build("wide_resnet_16_8", width=SMALL).eval().stage2[0]
    nn.init.zeros_(block.conv2.weight)
    x = images((16, 6, 6))
    torch.testing.assert_close(block(x), block.shortcut(block.norm1(x).relu()))


def test_equal_channels_with_a_stride_still_get_a_projection():
    # width 0.001 leaves one channel everywhere
    for name, projections in [("resnet20", 2), ("wide_resnet_16_8", 2)]:
        model = on_meta(name, width=0.001)
        kernels = [layer.kernel_size for layer in model.modules() if isinstance(layer, nn.Conv2d)]
        assert kernels.count((1, 1)) == projections


# ---- torchvision


def test_torchvision_models_are_built_untrained_with_the_classes_asked_for():
    model = models.build("torchvision:resnet18", classes=7)
    assert parameters_of(model) == 11_689_512 - 513_000 + 7 * 513
    assert model.eval()(images((3, 64, 64))).shape == (2, 7)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(name):
    # warnings are errors: this also says that the initialisation was chosen
    model = on_meta(f"torchvision:{name}", input_shape=(3, 299, 299))
    assert model.training
    assert model(torch.empty(2, 3, 299, 299, device="meta")).shape == (2, 10)


@pytest.mark.slow
def test_every_torchvision_classification_model_is_known():
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models):
        # regnet draws through numbers that the meta device does not have
        if not name.startswith("regnet"):
            assert isinstance(on_meta(f"torchvision:{name}"), nn.Module)


@pytest.mark.parametrize("kind", [ImportError, RuntimeError, OSError, AttributeError])
def test_a_torchvision_of_another_build_is_explained(kind, monkeypatch):
    class Broken:
        def find_spec(self, name, *_):
            if name == "torchvision":
                raise kind("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(SupermaskError) as caught:
        models.build("torchvision:resnet18")
    assert str(caught.value).removesuffix(".") == (
        "Cannot build torchvision:resnet18: torchvision cannot be imported with this torch build "
        f"({torch.__version__}); both must come from the same ordinary registry build: "
        "`python -m pip install --force-reinstall torch torchvision`"
    )
    assert isinstance(caught.value.__cause__, kind)
    # the others do not need it
    assert models.build("lenet_300_100", width=0.01)(images((1, 28, 28))).shape == (2, 10)


def test_a_missing_torchvision_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(SupermaskError, match="torchvision cannot be imported"):
        models.build("torchvision:resnet18")


# ---- errors


def message(*arguments, **options):
    with pytest.raises(SupermaskError) as caught:
        models.build(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["lenet", "", "LENET5", "resnet34", "torchvision"])
def test_an_unknown_name_lists_the_known_ones(name):
    assert message(name) == (
        f"Unknown model {name!r}; known are lenet_300_100, lenet5, lenet5_caffe, small_conv, small_vgg, tiny_conv, "
        "fc_500, linear_diamond_500, relu_diamond_500, conv2, conv4, conv6, conv8, resnet8, plain8, resnet20, "
        "resnet32, resnet56, resnet18, mobilenet, vgg11, vgg16, vgg19, wide_resnet_16_8, wide_resnet_22_2, "
        "wide_resnet_28_2, wide_resnet_28_10, wide_resnet_40_2, and any torchvision model as torchvision:resnet18."
    )


def test_an_unknown_torchvision_name_suggests_close_ones():
    said = message("torchvision:resnet19")
    assert said.startswith("Cannot build torchvision:resnet19: torchvision has no classification model 'resnet19'")
    assert "resnet18" in said.partition("it has")[2]
    # a detection model is one of torchvision's, but not for classification
    assert "no classification model" in message("torchvision:ssd300_vgg16")
    assert "it has resnet18, vgg16, vit_b_16" in message("torchvision:")


@pytest.mark.parametrize("name", ["lenet5", "torchvision:resnet18"])
@pytest.mark.parametrize("classes", [0, -1, 2.0, True, None])
def test_classes_below_one_are_refused(name, classes):
    assert message(name, classes=classes) == (
        f"Cannot build {name}: classes is {classes!r}; it must be an integer of at least 1."
    )


@pytest.mark.parametrize("name", ["conv2", "torchvision:resnet18"])
@pytest.mark.parametrize("width", [0, 0.0, -1.0, float("nan"), float("inf"), "1"])
def test_widths_that_are_not_positive_are_refused(name, width):
    assert message(name, width=width) == (
        f"Cannot build {name}: width is {width!r}; it must be a positive number, 1 for the paper's own widths."
    )


@pytest.mark.parametrize("name", ["lenet_300_100", "resnet20", "torchvision:resnet18"])
@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28, 1), (0, 28, 28), (3, 32.0, 32), (3, -1, 5), (), 28, "abc"])
def test_input_shapes_that_are_not_three_positive_integers_are_refused(name, shape):
    assert message(name, input_shape=shape) == (
        f"Cannot build {name}: input_shape is {shape!r}; it must be three positive integers (channels, height, width)."
    )


def test_what_torchvision_fixes_cannot_be_asked_for():
    assert message("torchvision:resnet18", width=0.5) == (
        "Cannot build torchvision:resnet18: width is 0.5; torchvision's models take no width, so it must be 1."
    )
    assert message("torchvision:resnet18", input_shape=(1, 28, 28)) == (
        "Cannot build torchvision:resnet18: input_shape (1, 28, 28) has 1 channels; torchvision's models take 3."
    )


def test_a_small_input_names_the_stages():
    assert message("conv8", input_shape=(3, 8, 32)) == (
        "Cannot build conv8: input_shape (3, 8, 32) is too small for its 4 pooling stages; "
        "height and width must be at least 16."
    )


def test_a_spec_with_a_bad_shape_cannot_exist():
    with pytest.raises(SupermaskError, match="three positive integers"):
        models.ModelSpec(models.MODELS["conv2"].make, (3, 32))


def test_the_registry_cannot_be_changed():
    with pytest.raises(TypeError):
        models.MODELS["mine"] = models.MODELS["conv2"]
