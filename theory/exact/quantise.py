"""A trained network as a network of integers: weights of few bits, whole inputs, and one factor on the outputs.

ReLU, max pooling and zero padding are positively homogeneous, so the scale of each layer moves through them to the end:
    W x + b with W = s Q, x = u p    is    s u (Q p + b / (s u)),
and s u is the unit of the next layer's inputs. Nothing is rounded but the weights and biases, once, here.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.models.wired import InsertZeros
from theory.target import FixedStep, Node, Target, TargetLayer

LEAST_BITS, MOST_BITS = 2, 16
LARGEST_INPUT = 2**24
"""Of whole inputs: float32 holds all integers up to here, and data sets come in float32."""
WITH_ZEROS = (nn.ZeroPad2d, InsertZeros)
KEEP_INTEGERS = (nn.ReLU, nn.Flatten, nn.Unflatten, nn.MaxPool2d, nn.AdaptiveMaxPool2d, *WITH_ZEROS)
"""Steps that make integers of integers, each positively homogeneous."""


@dataclass(frozen=True)
class IntegerInputs:
    """Whole inputs p from `low` to `high`, which the target takes as step * p + offset.

    Raw pixels in [0, 1] are the default; normalised ones have step 1 / (255 std) and offset -mean / std.
    """

    low: int = 0
    high: int = 255
    step: float = 1.0 / 255.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        whole = all(isinstance(end, int) and not isinstance(end, bool) for end in (self.low, self.high))
        if not whole or not -LARGEST_INPUT <= self.low < self.high <= LARGEST_INPUT:
            raise SupermaskError(f"{self} must have integers low < high, of at most {LARGEST_INPUT:,} in size.")
        if not (0.0 < self.step < math.inf and math.isfinite(self.offset)):
            raise SupermaskError(f"{self} must have a positive step and a finite offset.")

    @property
    def size(self) -> int:
        """Return the largest size of an input."""
        return max(-self.low, self.high)


@dataclass(frozen=True, eq=False)
class Quantised:
    """A network of integers in the place of a trained one.

    Attributes:
        target: its layers; every weight and bias is a whole number.
        inputs: that it takes.
        scale: its outputs times this are the trained network's, but for the rounding of weights.
        bits: of a weight.
        constants: of each layer, a power of two; its biases are this times an integer of as many bits.

    """

    target: Target
    inputs: IntegerInputs
    scale: float
    bits: int
    constants: tuple[float, ...]

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the whole outputs for whole inputs, float64 (batch, *input_shape)."""
        return self.target(inputs)


def most(bits: int) -> int:
    """Return the largest weight of so many bits, which include the sign: 127 of 8.

    Raises:
        SupermaskError: the bits are no number from 2 to 16.

    """
    if not isinstance(bits, int) or not LEAST_BITS <= bits <= MOST_BITS:
        raise SupermaskError(f"bits={bits!r} must be an integer from {LEAST_BITS} to {MOST_BITS}.")
    return 2 ** (bits - 1) - 1


def quantise(target: Target, bits: int, inputs: IntegerInputs) -> Quantised:
    """Round each weight to the nearest multiple of its layer's largest over `most(bits)`, and biases likewise.

    A bias is an integer of as many bits times a power of two, the smallest that reaches the layer's largest bias.

    Raises:
        SupermaskError: a step does not keep integers, or inputs with an offset are padded.

    """
    _check_steps(target, inputs)
    largest = most(bits)
    unit = inputs.step
    nodes: list[Node] = []
    constants: list[float] = []
    for node in target.nodes:
        layer = node.operation
        if isinstance(layer, FixedStep):
            nodes.append(node)
            continue
        scale = (float(np.abs(layer.kernel).max()) or 1.0) / largest
        kernel = np.rint(layer.kernel / scale)
        bias = layer.bias
        if not constants and inputs.offset:  # with the rounded weights, as these are what the offset meets
            bias = layer.offset + inputs.offset * scale * kernel.sum(axis=(1, 2, 3))
        unit *= scale
        constant = 1.0
        if bias is not None:
            constant = _power_of_two(float(np.abs(bias).max()) / unit / largest)
            bias = np.rint(bias / unit / constant) * constant
        nodes.append(replace(node, operation=replace(layer, kernel=kernel, bias=bias, mass=None, norms=0)))
        constants.append(constant)
    return Quantised(replace(target, nodes=tuple(nodes)), inputs, unit, bits, tuple(constants))


def _power_of_two(least: float) -> float:
    """Return the smallest power of two from 1 on that is at least this."""
    return 2.0 ** max(0, math.ceil(math.log2(least))) if least > 1.0 else 1.0


def _check_steps(target: Target, inputs: IntegerInputs) -> None:
    for step in target.steps:
        if step.joins:
            raise SupermaskError("Tensors of two layers have two scales, and exact tickets join none; give a chain.")
        if not isinstance(step.module, KEEP_INTEGERS):
            names = ", ".join(kind.__name__ for kind in KEEP_INTEGERS)
            raise SupermaskError(f"A {type(step.module).__name__} makes fractions of integers; {names} do not.")
    before = next(i for i, node in enumerate(target.nodes) if isinstance(node.operation, TargetLayer))
    if inputs.offset and any(isinstance(step.module, WITH_ZEROS) for step in target.steps[:before]):
        raise SupermaskError(
            f"The target puts zeros beside its inputs, which are no whole inputs with offset {inputs.offset}; give a"
            " target for inputs without an offset."
        )
