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
from theory.chain.shape_check import Shape, input_shape_of, shapes_along
from theory.chain.weighted import folded_into

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FixedStep:
    """A ReLU, a pooling, a padding or a flattening: what has no weights.

    Attributes:
        module: without parameters.
        shape: of one of its inputs, without the batch.

    """

    module: nn.Module
    shape: Shape


@dataclass(frozen=True, eq=False)
class TargetLayer:
    """A fully connected or convolutional layer: x -> kernel * x + bias, and the steps up to the next one.

    Attributes:
        kernel: float64 (outputs, inputs, height, width); 1 by 1 in a fully connected layer.
        bias: float64 (outputs,), or None.
        mass: float64 (outputs,), sizes that add up to the bias: more than its own where batch norm was folded into it.
        norms: batch norms that were folded into it.
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
    after: tuple[FixedStep, ...] = ()
    mass: Matrix | None = None
    norms: int = 0

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
    def offset_mass(self) -> Matrix:
        """The sizes that add up to the bias: by them the target's rounding is bounded."""
        return np.abs(self.offset) if self.mass is None else self.mass

    @property
    def terms(self) -> int:
        """Roundings on the way to one output: each product, the bias, and eight in each batch norm."""
        return self.inputs * self.taps + 4 + 8 * self.norms

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

    @property
    def after_shape(self) -> Shape:
        """Shape of one output behind the steps."""
        x = torch.zeros(1, *self.output_shape, dtype=torch.float64)
        for step in self.after:
            x = step.module(x)
        return tuple(x.shape[1:])

    def affine(self, x: Tensor, kernel: Matrix, offset: Matrix) -> Tensor:
        """Return what a layer of this geometry with this kernel and offset computes, before the steps.

        It is computed in the dtype of the inputs.
        """
        weight, bias = (torch.from_numpy(each).to(x.dtype) for each in (kernel, offset))
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

    before: tuple[FixedStep, ...]
    layers: tuple[TargetLayer, ...]
    input_shape: Shape

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the layers compute of inputs (batch, *input_shape), in their dtype."""
        for step in self.before:
            x = step.module(x)
        for layer in self.layers:
            x = layer.affine(x, layer.kernel, layer.offset)
            for step in layer.after:
                x = step.module(x)
        return x


def read_target(target: nn.Module, input_shape: Sequence[int] | None = None, *, signed: bool = True) -> Target:
    """Return the layers of a trained network.

    Args:
        target: what `theory.chain.chain_of` reads: Linear and Conv2d layers in a chain, with ReLUs, pooling, flattening
            and batch norm between them.
        input_shape: of one input, without the batch; by default the number of inputs of a fully connected network, and
            else the smallest square image that the first Linear layer fits.
        signed: whether its inputs can be negative.

    Raises:
        SupermaskError: it holds something else, its layers do not fit together, a weight is NaN or infinite, or the
            shape of its inputs cannot be found out.

    """
    shape = None if input_shape is None else tuple(input_shape)
    modules = list(chain_of(target, shape))
    found = _assemble(modules, input_shape_of(modules) if shape is None else shape, signed=signed)
    _check_reading(target, found)
    return found


def _assemble(modules: Sequence[nn.Module], input_shape: Shape, *, signed: bool) -> Target:
    before: list[FixedStep] = []
    layers: list[TargetLayer] = []
    after: list[list[FixedStep]] = []
    for module, shape in zip(modules, shapes_along(modules, input_shape), strict=False):  # the last one is the output's
        if isinstance(module, nn.Linear | nn.Conv2d):
            layers.append(_layer(module, shape, signed))
            after.append([])
            signed = True
        else:
            (after[-1] if layers else before).append(FixedStep(module, shape))
            signed = signed and not isinstance(module, nn.ReLU)
    complete = tuple(replace(layer, after=tuple(steps)) for layer, steps in zip(layers, after, strict=True))
    return Target(tuple(before), complete, input_shape)


def _layer(module: nn.Linear | nn.Conv2d, shape: Shape, signed: bool) -> TargetLayer:
    weight: Matrix = module.weight.detach().numpy()
    bias: Matrix | None = None if module.bias is None else module.bias.detach().numpy()
    folded = folded_into(module)
    mass, norms = (None, 0) if folded is None else (folded.mass.numpy(), folded.norms)
    if isinstance(module, nn.Linear):
        return TargetLayer(weight[:, :, None, None], bias, signed=signed, mass=mass, norms=norms)
    high, wide = (int(side) for side in module.stride)
    down, across = (int(side) for side in module.dilation)
    size = (shape[1], shape[2])
    geometry = (size, (high, wide), (down, across))
    return TargetLayer(weight, bias, *geometry, convolutional=True, signed=signed, mass=mass, norms=norms)


@torch.no_grad()
def _check_reading(target: nn.Module, found: Target) -> None:
    """Refuse a target that computes something else than was read, by which the proof would be of another one."""
    inputs = torch.randn(16, *found.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    read, computed = found(inputs), deepcopy(target).cpu().double().eval()(inputs)
    # relative to the largest output: where terms cancel, the two round differently
    same = read.shape == computed.shape and float((read - computed).abs().max()) <= 1e-9 * float(read.abs().max())
    if not same:  # NaN is not the same either
        raise SupermaskError("The target does not compute what its modules say; give plain modules without hooks.")
