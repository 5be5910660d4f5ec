"""The target network: a graph of affine layers read from a trained module, in float64, and what stands between them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.models.wired import Add, Concatenate, Sources, check_shape, sources_of
from theory.graph import graph_of
from theory.graph.copies import plain_copy
from theory.graph.shape_check import Shape, input_shape_of, shapes_along
from theory.graph.weighted import folded_into

Matrix = NDArray[np.float64]
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class FixedStep:
    """A ReLU, a pooling, a padding, a flattening, a sum or a concatenation: what has no weights.

    Attributes:
        module: without parameters.
        shape: of one of its inputs, without the batch; of a concatenation, of the first.

    """

    module: nn.Module
    shape: Shape

    @property
    def joins(self) -> bool:
        """Whether it reads several tensors."""
        return isinstance(self.module, Add | Concatenate)

    @property
    def picks(self) -> bool:
        """Whether it gives out the largest of some values, which is not linear in them."""
        return isinstance(self.module, nn.MaxPool2d | nn.AdaptiveMaxPool2d)


@dataclass(frozen=True, eq=False)
class TargetLayer:
    """A fully connected or convolutional layer: x -> kernel * x + bias.

    Attributes:
        kernel: float64 (outputs, inputs / groups, height, width); 1 by 1 in a fully connected layer.
        bias: float64 (outputs,), or None.
        mass: float64 (outputs,), sizes that add up to the bias: more than its own where batch norm was folded into it.
        norms: batch norms that were folded into it.
        size: height and width of its input; (1, 1) in a fully connected layer.
        stride: of a convolution. It has no padding of its own: that is a step before it.
        dilation: of a convolution.
        convolutional: whether it reads images (channels, height, width) or vectors (features,).
        signed: whether its inputs can be negative.
        groups: parts of the inputs and of the outputs, in their order; each output reads the inputs of its part.

    """

    kernel: Matrix
    bias: Matrix | None
    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    convolutional: bool = False
    signed: bool = True
    groups: int = 1
    mass: Matrix | None = None
    norms: int = 0

    @property
    def outputs(self) -> int:
        """Number of output units or channels."""
        return self.kernel.shape[0]

    @property
    def inputs(self) -> int:
        """Number of input units or channels."""
        return self.kernel.shape[1] * self.groups

    @property
    def reads(self) -> int:
        """Number of input units or channels that one output reads."""
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
        return self.reads * self.taps + 4 + 8 * self.norms

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
    def output_shape(self) -> Shape:
        """Shape of one output."""
        return (self.outputs, *self.output_size) if self.convolutional else (self.outputs,)

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return (self.inputs, *self.size) if self.convolutional else (self.inputs,)

    def affine(self, x: Tensor, kernel: Matrix, offset: Matrix) -> Tensor:
        """Return what a layer of this geometry with this kernel and offset computes, before the steps.

        It is computed in the dtype of the inputs.
        """
        weight, bias = (torch.from_numpy(each).to(x.dtype) for each in (kernel, offset))
        if self.convolutional:
            return nn.functional.conv2d(x, weight, bias, stride=self.stride, dilation=self.dilation, groups=self.groups)
        return x @ weight[:, :, 0, 0].T + bias

    def __call__(self, x: Tensor) -> Tensor:
        """Return kernel * x + bias, in the dtype of the inputs."""
        return self.affine(x, self.kernel, self.offset)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of a target.

    Attributes:
        operation: a layer that is built, or a step that the random network has too.
        sources: what it reads: 0 is the input of the target, and n what its n-th node gives.

    """

    operation: TargetLayer | FixedStep
    sources: Sources


@dataclass(frozen=True, eq=False)
class Target:
    """A graph of layers and steps; the last node gives the output. A chain is one in which each reads the one before.

    Attributes:
        nodes: in an order in which each comes behind what it reads.
        input_shape: of one input, without the batch.

    """

    nodes: tuple[Node, ...]
    input_shape: Shape

    @property
    def layers(self) -> tuple[TargetLayer, ...]:
        """The layers, in the order of the nodes."""
        return tuple(node.operation for node in self.nodes if isinstance(node.operation, TargetLayer))

    @property
    def steps(self) -> tuple[FixedStep, ...]:
        """What has no weights, in the order of the nodes."""
        return tuple(node.operation for node in self.nodes if isinstance(node.operation, FixedStep))

    @cached_property
    def output_shape(self) -> Shape:
        """Shape of one output, without the batch."""
        return tuple(self(torch.zeros(1, *self.input_shape, dtype=torch.float64)).shape[1:])

    def follow(self, start: Value, through: Callable[..., Value]) -> list[Value]:
        """Return what there is at the input and behind each node.

        Args:
            start: at the input.
            through: of a node and what there is at each of its sources, what is behind it; called in the nodes' order.

        """
        values = [start]
        for node in self.nodes:
            values.append(through(node, *(values[source] for source in node.sources)))
        return values

    def run(self, x: Tensor, layers: Iterator[Callable[[Tensor], Tensor]]) -> Tensor:
        """Return what the graph computes of inputs (batch, *input_shape) with other layers in place of its own.

        Raises:
            SupermaskError: the inputs have another shape.

        """
        readers = (node.operation for node in self.nodes if 0 in node.sources)
        check_shape(x, self.input_shape, (each.module if isinstance(each, FixedStep) else each for each in readers))

        def through(node: Node, *tensors: Tensor) -> Tensor:
            operation = node.operation
            return operation.module(*tensors) if isinstance(operation, FixedStep) else next(layers)(*tensors)

        return self.follow(x, through)[-1]

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the layers compute of inputs (batch, *input_shape), in their dtype.

        Raises:
            SupermaskError: the inputs have another shape.

        """
        return self.run(x, iter(self.layers))


def read_target(target: nn.Module, input_shape: Sequence[int] | None = None, *, signed: bool = True) -> Target:
    """Return the layers of a trained network.

    Args:
        target: what `theory.graph.graph_of` reads: Linear and convolutional layers, with ReLUs, pooling, flattening,
            batch norm, sums and concatenations between them.
        input_shape: of one input, without the batch; by default the number of inputs of a fully connected network, and
            else the smallest square image that the first Linear layer fits.
        signed: whether its inputs can be negative.

    Raises:
        SupermaskError: it holds something else, its layers do not fit together, a weight is NaN or infinite, or the
            shape of its inputs cannot be found out.

    """
    shape = None if input_shape is None else tuple(input_shape)
    network = graph_of(target, shape)
    found = _assemble(network, input_shape_of(network) if shape is None else shape, signed=signed)
    _check_reading(target, found)
    return found


def _assemble(network: nn.Sequential, input_shape: Shape, *, signed: bool) -> Target:
    nodes: list[Node] = []
    negative = [signed]  # whether each value can be
    shapes = shapes_along(network, input_shape)
    for module, sources in zip(network, sources_of(network), strict=True):
        incoming, shape = any(negative[source] for source in sources), shapes[sources[0]]
        if isinstance(module, nn.Linear | nn.Conv2d):
            nodes.append(Node(_layer(module, shape, incoming), sources))
            negative.append(True)
        else:
            nodes.append(Node(FixedStep(module, shape), sources))
            negative.append(incoming and not isinstance(module, nn.ReLU))
    return Target(tuple(nodes), input_shape)


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
    return TargetLayer(
        weight, bias, *geometry, convolutional=True, signed=signed, groups=module.groups, mass=mass, norms=norms
    )


@torch.no_grad()
def _check_reading(target: nn.Module, found: Target) -> None:
    """Refuse a target that computes something else than was read, by which the proof would be of another one."""
    inputs = torch.randn(16, *found.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    read, computed = found(inputs), plain_copy(target)(inputs)
    # relative to the largest output: where terms cancel, the two round differently
    same = read.shape == computed.shape and float((read - computed).abs().max()) <= 1e-9 * float(read.abs().max())
    if not same:  # NaN is not the same either
        raise SupermaskError("The target does not compute what its modules say; give plain modules without hooks.")
