"""The target network: affine layers read from a trained module, in float64, and what stands between them."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supermask.errors import SupermaskError
from theory.chain import chain_of

Matrix = NDArray[np.float64]
Shape = tuple[int, ...]

LARGEST_SIDE = 512
"""Side of the largest square image that is tried where the input's shape is not given."""


@dataclass(frozen=True, eq=False)
class Step:
    """A ReLU, a pooling, a padding or a flattening: what has no weights.

    Attributes:
        module: without parameters.
        shape: of one of its inputs, without the batch.

    """

    module: nn.Module
    shape: Shape


@dataclass(frozen=True, eq=False)
class Layer:
    """A fully connected or convolutional layer: x -> kernel * x + bias, and the steps up to the next one.

    Attributes:
        kernel: float64 (outputs, inputs, height, width); 1 by 1 in a fully connected layer.
        bias: float64 (outputs,), or None.
        size: height and width of its input; (1, 1) in a fully connected layer.
        stride: of a convolution. It has no padding of its own: that is a step before it.
        dilation: of a convolution.
        convolutional: whether it reads images (channels, height, width) or vectors (features,).
        signed: whether its inputs can be negative.
        after: what follows it.

    """

    kernel: Matrix
    bias: Matrix | None
    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    convolutional: bool = False
    signed: bool = True
    after: tuple[Step, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of output units or channels."""
        return self.kernel.shape[0]

    @property
    def inputs(self) -> int:
        """Number of input units or channels."""
        return self.kernel.shape[1]

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.kernel.shape[2], self.kernel.shape[3]

    @property
    def taps(self) -> int:
        """Weights between an input channel and an output channel."""
        return math.prod(self.window)

    @property
    def offset(self) -> Matrix:
        """The bias, zero where there is none."""
        return np.zeros(self.outputs) if self.bias is None else self.bias

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of its output."""
        sides = zip(self.size, self.window, self.stride, self.dilation, strict=True)
        high, wide = ((side - gap * (tap - 1) - 1) // stride + 1 for side, tap, stride, gap in sides)
        return high, wide

    @property
    def places(self) -> int:
        """Outputs of one channel."""
        return math.prod(self.output_size)

    @property
    def relu(self) -> bool:
        """Whether a ReLU follows."""
        return any(isinstance(step.module, nn.ReLU) for step in self.after)

    @property
    def output_shape(self) -> Shape:
        """Shape of one output."""
        return (self.outputs, *self.output_size) if self.convolutional else (self.outputs,)

    def affine(self, x: Tensor, kernel: Matrix, offset: Matrix) -> Tensor:
        """Return what a layer of this geometry with this kernel and offset computes, float64, before the steps."""
        weight, bias = torch.from_numpy(kernel), torch.from_numpy(offset)
        if self.convolutional:
            return nn.functional.conv2d(x, weight, bias, stride=self.stride, dilation=self.dilation)
        return x @ weight[:, :, 0, 0].T + bias


@dataclass(frozen=True, eq=False)
class Target:
    """A chain of layers.

    Attributes:
        before: steps before the first layer.
        layers: in their order.
        input_shape: of one input, without the batch.

    """

    before: tuple[Step, ...]
    layers: tuple[Layer, ...]
    input_shape: Shape

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the layers compute of inputs, float64 (batch, *input_shape)."""
        for step in self.before:
            x = step.module(x)
        for layer in self.layers:
            x = layer.affine(x, layer.kernel, layer.offset)
            for step in layer.after:
                x = step.module(x)
        return x


def read_target(target: nn.Module, input_shape: Sequence[int] | None = None) -> Target:
    """Return the layers of a trained network.

    Args:
        target: what `theory.chain.chain_of` reads: Linear and Conv2d layers in a chain, with ReLUs, pooling, flattening
            and batch norm between them.
        input_shape: of one input, without the batch; by default the number of inputs of a fully connected network, and
            else the smallest square image that the first Linear layer fits.

    Raises:
        SupermaskError: it holds something else, its layers do not fit together, a weight is NaN or infinite, or the
            shape of its inputs cannot be found out.

    """
    modules = _without_padding(chain_of(target))
    shape = _input_shape(modules) if input_shape is None else tuple(input_shape)
    found = _assemble(modules, shape)
    _check_reading(target, found)
    return found


def _without_padding(chain: nn.Sequential) -> list[nn.Module]:
    """Return the chain's modules with the padding of convolutions as steps of their own."""
    modules: list[nn.Module] = []
    for module in chain:
        if isinstance(module, nn.Conv2d) and any(module.padding):
            high, wide = (int(side) for side in module.padding)
            modules.append(nn.ZeroPad2d((wide, wide, high, high)))
        modules.append(module)
    return modules


def _assemble(modules: Sequence[nn.Module], input_shape: Shape) -> Target:
    before: list[Step] = []
    layers: list[Layer] = []
    after: list[list[Step]] = []
    shape, signed = input_shape, True
    for module in modules:
        if isinstance(module, nn.Linear | nn.Conv2d):
            _check_input(module, shape)
            layers.append(_layer(module, shape, signed))
            after.append([])
            shape, signed = layers[-1].output_shape, True
        else:
            (after[-1] if layers else before).append(Step(module, shape))
            shape, signed = _shape_after(module, shape), signed and not isinstance(module, nn.ReLU)
    complete = tuple(replace(layer, after=tuple(steps)) for layer, steps in zip(layers, after, strict=True))
    return Target(tuple(before), complete, input_shape)


def _layer(module: nn.Linear | nn.Conv2d, shape: Shape, signed: bool) -> Layer:
    weight: Matrix = module.weight.detach().numpy()
    bias: Matrix | None = None if module.bias is None else module.bias.detach().numpy()
    if isinstance(module, nn.Linear):
        return Layer(weight[:, :, None, None], bias, signed=signed)
    high, wide = (int(side) for side in module.stride)
    down, across = (int(side) for side in module.dilation)
    size = (shape[1], shape[2])
    return Layer(weight, bias, size, (high, wide), (down, across), convolutional=True, signed=signed)


def _check_input(module: nn.Linear | nn.Conv2d, shape: Shape) -> None:
    """Refuse a layer that its input does not fit."""
    if isinstance(module, nn.Linear):
        if shape != (module.in_features,):
            raise SupermaskError(f"A Linear of the target takes {module.in_features} inputs, and {_text(shape)} come.")
        return
    if len(shape) != 3 or shape[0] != module.in_channels:
        raise SupermaskError(
            f"A Conv2d of the target takes images of {module.in_channels} channels, and {_text(shape)} come;"
            " give input_shape as (channels, height, width)."
        )
    window = [gap * (tap - 1) + 1 for gap, tap in zip(module.dilation, module.kernel_size, strict=True)]
    if shape[1] < window[0] or shape[2] < window[1]:
        raise SupermaskError(f"A {_text(tuple(window))} Conv2d of the target gets images of only {_text(shape[1:])}.")


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _shape_after(module: nn.Module, shape: Shape) -> Shape:
    """Return the shape that a step makes of an input of this shape."""
    if isinstance(module, nn.Flatten):
        return (math.prod(shape),)
    if isinstance(module, nn.ReLU):
        return shape
    if len(shape) != 3:
        raise SupermaskError(f"A {type(module).__name__} of the target takes images, and {_text(shape)} come.")
    try:  # one channel stands for all
        after = module(torch.zeros(1, 1, *shape[1:], dtype=torch.float64))
    except RuntimeError:
        raise SupermaskError(f"A {type(module).__name__} of the target does not take {_text(shape)} images.") from None
    if not bool(torch.isfinite(after).all()):
        kind = type(module).__name__
        raise SupermaskError(
            f"A {kind} of the target gives infinity: some window of {_text(shape)} images is all padding."
        )
    return (shape[0], *after.shape[2:])


def _input_shape(modules: Sequence[nn.Module]) -> Shape:
    """Return the shape of the target's inputs as its layers tell it."""
    first = next(module for module in modules if isinstance(module, nn.Linear | nn.Conv2d))
    before = modules[: modules.index(first)]
    if isinstance(first, nn.Linear) and all(isinstance(module, nn.Flatten | nn.ReLU) for module in before):
        return (first.in_features,)
    adaptive = any(isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) for module in modules)
    if adaptive or isinstance(first, nn.Linear) or not any(isinstance(module, nn.Linear) for module in modules):
        raise SupermaskError("The target takes images of any size; give input_shape as (channels, height, width).")
    for side in range(1, LARGEST_SIDE + 1):
        shape = (first.in_channels, side, side)
        if _fits(modules, shape):
            return shape
    raise SupermaskError(
        f"No square image of up to {LARGEST_SIDE} pixels fits the target's first Linear layer;"
        " give input_shape as (channels, height, width)."
    )


def _fits(modules: Sequence[nn.Module], shape: Shape) -> bool:
    try:
        for module in modules:
            if isinstance(module, nn.Linear):
                return shape == (module.in_features,)
            if isinstance(module, nn.Conv2d):
                _check_input(module, shape)
                shape = _layer(module, shape, signed=True).output_shape
            else:
                shape = _shape_after(module, shape)
    except SupermaskError:
        return False
    return False


@torch.no_grad()
def _check_reading(target: nn.Module, found: Target) -> None:
    """Refuse a target that computes something else than was read, by which the proof would be of another one."""
    inputs = torch.randn(16, *found.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    read, computed = found(inputs), deepcopy(target).cpu().double().eval()(inputs)
    # relative to the largest output: where terms cancel, the two round differently
    same = read.shape == computed.shape and float((read - computed).abs().max()) <= 1e-9 * float(read.abs().max())
    if not same:  # NaN is not the same either
        raise SupermaskError("The target does not compute what its modules say; give plain modules without hooks.")
