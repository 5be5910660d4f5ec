"""The networks of the papers, by name: `build("conv4")`.

The weights are PyTorch's default initialisation, drawn from its global generator; a search or a baseline
redraws them from its own seed. A new network is a file with its module, and a line in `MODELS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol

from torch import nn

from supermask.errors import SupermaskError, first_line
from supermask.imported import is_place, registered
from supermask.models.binary import binarized
from supermask.models.char_gpt import CharGPT
from supermask.models.conv import ConvNet
from supermask.models.diamond import Diamond, FullyConnected
from supermask.models.folded import folded
from supermask.models.from_torchvision import from_torchvision
from supermask.models.lenet import LeNet5, LeNet5Caffe, LeNet300100
from supermask.models.mobilenet import MobileNet
from supermask.models.own import GROUP, TOKEN_MODELS, call
from supermask.models.resnet import ResNet
from supermask.models.resnet18 import ResNet18
from supermask.models.shape import InputShape, check_classes, check_input_shape, check_width
from supermask.models.small_conv import SmallConv, SmallVGG, TinyConv
from supermask.models.straight import straightened
from supermask.models.vgg import VGG
from supermask.models.wide_resnet import WideResNet
from supermask.shown import quoted

__all__ = [
    "MODELS",
    "TOKEN_MODELS",
    "TORCHVISION_HINT",
    "CharGPT",
    "InputShape",
    "ModelSpec",
    "build",
    "is_code",
    "known",
    "make",
]

TORCHVISION_PREFIX = "torchvision:"
CHANGES: Mapping[str, Callable[[nn.Module], nn.Module]] = MappingProxyType(
    {"binary": binarized, "folded": folded, "straight": straightened}
)
"""What may stand before the name of a network, with a colon: what is done with it."""
TORCHVISION_HINT = "any torchvision model as torchvision:resnet18"
"""What `build` takes besides the names of `known()`, worded for a message or a help text."""


class Maker(Protocol):
    """What makes a module once the caller's three choices have been checked."""

    def __call__(self, *, input_shape: InputShape, classes: int, width: float) -> nn.Module:
        """Make the module, or raise `SupermaskError` with the bare fact that prevents it."""
        ...


@dataclass(frozen=True)
class ModelSpec:
    """How one named network is made, and the input (channels, height, width) that its paper gives it."""

    make: Maker
    input_shape: InputShape

    def __post_init__(self) -> None:
        check_input_shape(self.input_shape)


MNIST: InputShape = (1, 28, 28)
CIFAR: InputShape = (3, 32, 32)

MODELS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        "lenet_300_100": ModelSpec(LeNet300100, MNIST),
        "lenet5": ModelSpec(LeNet5, MNIST),
        "lenet5_caffe": ModelSpec(LeNet5Caffe, MNIST),
        "small_conv": ModelSpec(SmallConv, MNIST),
        "small_vgg": ModelSpec(SmallVGG, MNIST),
        "tiny_conv": ModelSpec(TinyConv, MNIST),
        "fc_500": ModelSpec(FullyConnected, MNIST),
        "linear_diamond_500": ModelSpec(partial(Diamond, relu=False), MNIST),
        "relu_diamond_500": ModelSpec(partial(Diamond, relu=True), MNIST),
        "conv2": ModelSpec(partial(ConvNet, 2), CIFAR),
        "conv4": ModelSpec(partial(ConvNet, 4), CIFAR),
        "conv6": ModelSpec(partial(ConvNet, 6), CIFAR),
        "conv8": ModelSpec(partial(ConvNet, 8), CIFAR),
        "resnet8": ModelSpec(partial(ResNet, 8), CIFAR),
        "plain8": ModelSpec(partial(ResNet, 8, residual=False), CIFAR),
        "resnet20": ModelSpec(partial(ResNet, 20), CIFAR),
        "resnet32": ModelSpec(partial(ResNet, 32), CIFAR),
        "resnet56": ModelSpec(partial(ResNet, 56), CIFAR),
        "resnet18": ModelSpec(ResNet18, CIFAR),
        "mobilenet": ModelSpec(MobileNet, CIFAR),
        "vgg11": ModelSpec(partial(VGG, 11), CIFAR),
        "vgg16": ModelSpec(partial(VGG, 16), CIFAR),
        "vgg19": ModelSpec(partial(VGG, 19), CIFAR),
        "wide_resnet_16_8": ModelSpec(partial(WideResNet, 16, 8), CIFAR),
        "wide_resnet_22_2": ModelSpec(partial(WideResNet, 22, 2), CIFAR),
        "wide_resnet_28_2": ModelSpec(partial(WideResNet, 28, 2), CIFAR),
        "wide_resnet_28_10": ModelSpec(partial(WideResNet, 28, 10), CIFAR),
        "wide_resnet_40_2": ModelSpec(partial(WideResNet, 40, 2), CIFAR),
    }
)
"""Name to network; every list of networks is read from here, by `known`."""


def known() -> tuple[str, ...]:
    """Names of the networks that `build` makes; it also takes `torchvision:NAME`, and a change before a name."""
    return tuple(MODELS)


def is_code(name: str) -> bool:
    """Whether a name stands for code outside of this package, which only a user may ask for."""
    prefix, colon, _ = name.partition(":")
    ours = bool(colon) and (prefix in CHANGES or name.startswith(TORCHVISION_PREFIX))
    return not ours and (is_place(name) or registered(GROUP, name) is not None)


def build(name: str, *, input_shape: InputShape | None = None, classes: int = 10, width: float = 1.0) -> nn.Module:
    """Make the network `name`: float32 images (batch, channels, height, width) to logits (batch, classes).

    Args:
        name: one of `known()`, or `torchvision:NAME` for a classification model of torchvision. The docstring
            of each network's class names its source. `binary:` before it replaces every ReLU by a binary activation,
            `folded:` lets equal blocks of a stage share their weights, `straight:` puts a `Straighten` before it.
        input_shape: (channels, height, width) of one image. None: the paper's own, (1, 28, 28) for the LeNets,
            small_conv, small_vgg, tiny_conv, fc_500 and the diamonds, and (3, 32, 32) for the others. torchvision's
            models fix 3 channels; their size is not checked.
        classes: number of logits.
        width: multiplies the hidden widths, each rounded to at least 1, but neither the input's channels nor
            the classes. torchvision's models take only 1.

    Returns:
        A plain module in training mode with PyTorch's default initialisation. Every layer has a bias but the
        layers of small_conv, small_vgg and tiny_conv, the convolutions of the networks with batch norm and the
        copies of the diamonds. Modules are registered in the order that they run, a shortcut after the branch that
        it is added to. What torchvision makes follows torchvision.

    Raises:
        SupermaskError: the name is unknown, an argument is out of its range, the input is too small for the
            network's pooling stages, or torchvision cannot be imported.
    """
    change, _, plain = name.partition(":")
    if change in CHANGES:
        if f":{change}:" in f":{plain}":
            raise SupermaskError(f"The model {quoted(name)} has {change}: twice; once is enough.")
        model = build(plain, input_shape=input_shape, classes=classes, width=width)
        try:
            return CHANGES[change](model)
        except SupermaskError as error:
            raise SupermaskError(f"Cannot build {name}: {error}") from None
    if name not in MODELS and not name.startswith(TORCHVISION_PREFIX):
        raise SupermaskError(f"Unknown model {quoted(name)}; known are {', '.join(known())}, and {TORCHVISION_HINT}.")
    try:
        return _build(name, input_shape, classes, width)
    except SupermaskError as error:
        # the cause is kept, e.g. why torchvision could not be imported
        raise SupermaskError(f"Cannot build {name}: {error}") from error.__cause__
    except (RuntimeError, TypeError, OverflowError) as error:  # torch's modules, of sizes that no tensor can have
        raise SupermaskError(f"Cannot build {name}: {first_line(error)}.") from None


def make(
    name: str, *, input_shape: tuple[int, ...], classes: int, width: float = 1.0, vocabulary: int | None = None
) -> nn.Module:
    """Make the network `name` as `build` does, or one of tokens, or one of the caller's own code, which is imported.

    Args:
        name: what `build` takes; "char_gpt"; `package.module:factory`, a function or class that returns a module; or a
            name that an installed package registers in the group of entry points "supermask.models". A factory gets
            those of the other arguments that its signature names, with `context`, which is the length of sequences.
        input_shape: of one input.
        classes: number of outputs, at each position of sequences.
        width: factor on the hidden widths.
        vocabulary: how many tokens there are; None where inputs are not token ids.

    Raises:
        SupermaskError: as `build`; or the code cannot be imported, cannot be called, raised, or returned no module.

    """
    if name not in TOKEN_MODELS and (name in MODELS or not is_code(name)):
        # torchvision's models decide themselves about other sizes than theirs
        shape = None if TORCHVISION_PREFIX in name else input_shape
        return build(name, input_shape=shape, classes=classes, width=width)
    offered = {"input_shape": tuple(input_shape), "classes": classes, "width": width}
    tokens = {} if vocabulary is None else {"vocabulary": vocabulary, "context": input_shape[-1]}
    return call(name, {**offered, **tokens})


def _build(name: str, input_shape: InputShape | None, classes: int, width: float) -> nn.Module:
    check_classes(classes)
    check_width(width)
    if input_shape is not None:
        check_input_shape(input_shape)
    if name not in MODELS:
        return from_torchvision(
            name.removeprefix(TORCHVISION_PREFIX), input_shape=input_shape, classes=classes, width=width
        )
    spec = MODELS[name]
    return spec.make(input_shape=input_shape or spec.input_shape, classes=classes, width=width)
