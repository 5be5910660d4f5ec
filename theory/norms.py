"""Upper bounds of operator norms, each of them proven: of layers, and of what stands between them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from supermask.models.wired import Add
from theory.precision import FLOAT64, Precision
from theory.target import FixedStep, Matrix, TargetLayer

Norm = Literal["l2", "linf"]
Bound = TypeVar("Bound", float, Tensor)
"""A bound, or one for each of some points."""
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
REPEATS = (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d)
SLACK = 1.0 + 1e-9
"""Over computed norms, whose relative error (singular values, Fourier transforms) is of the order of size * 2^-53."""


def operator_norm(layer: TargetLayer, kernel: Matrix, norm: Norm) -> float:
    """Return a bound of |kernel * x| / |x| for a kernel that moves over images as the layer's does.

    In the largest entry ("linf") it is the largest sum of sizes into one output. In the Euclidean norm, a layer that
    steps by s computes the layer of step 1 over the s^2 phases of its input; that is a part of the same convolution on
    a torus; and that one is a block-diagonal matrix in the Fourier basis, so its norm is the largest singular value of
    any block (Sedghi, Gupta & Long 2019 for step 1). For a fully connected layer there is one block, the matrix.

    Args:
        layer: whose geometry counts. With groups it is one layer for each, and the largest norm is that of all.
        kernel: float64 (outputs, any number of inputs, height, width).
        norm: of inputs and outputs.

    """
    if norm == "linf":
        return float(np.abs(kernel).sum(axis=(1, 2, 3)).max(initial=0.0)) * SLACK
    if 0 in kernel.shape:
        return 0.0
    exponent, kernel = scaled(kernel)
    if layer.window == (1, 1):
        matrices = kernel[:, :, 0, 0].reshape(layer.groups, -1, kernel.shape[1])
        return grown(float(np.linalg.norm(matrices, 2, axis=(1, 2)).max()), exponent) * SLACK
    phases = _phases(kernel, layer)
    torus = tuple(-(-side // step) for side, step in zip(layer.size, layer.stride, strict=True))
    blocks = np.moveaxis(np.fft.rfft2(phases, s=torus), (2, 3), (0, 1))
    parts = blocks.reshape(*blocks.shape[:2], layer.groups, -1, blocks.shape[3])
    return grown(max(float(np.linalg.norm(row, 2, axis=(2, 3)).max()) for row in parts), exponent) * SLACK


def schur_norm(layer: TargetLayer, kernel: Matrix, norm: Norm) -> float:
    """Return a bound of the operator norm of a kernel without negative entries, loose but cheap.

    The Euclidean norm is at most the root of the largest row sum times the largest column sum (Schur's test); the
    entries of a row are those of one output channel, and of a column at most those of one input channel.
    """
    exponent, kernel = scaled(kernel)
    rows = float(kernel.sum(axis=(1, 2, 3)).max(initial=0.0))
    if norm == "linf":
        return grown(rows, exponent) * SLACK
    parts = kernel.reshape(layer.groups, -1, *kernel.shape[1:])
    return grown(math.sqrt(rows * float(parts.sum(axis=(1, 3, 4)).max(initial=0.0))), exponent) * SLACK


def both_halves(positive: Matrix, negative: Matrix | None, norm: Norm) -> Matrix:
    """Return a kernel whose norms bound those of positive * x+ + negative * x- for inputs of any sign.

    In the Euclidean norm it is the two side by side, because |(x+, x-)| = |x|. In the largest entry it is the larger of
    the two, because x+ and x- never share an entry.
    """
    if negative is None:
        return positive
    if norm == "linf":
        return np.maximum(np.abs(positive), np.abs(negative))
    return np.concatenate([positive, negative], axis=1)


def row_norms(kernel: Matrix, norm: Norm) -> Matrix:
    """Return for each output channel by how much an output moves at most, over the norm of its input: (outputs,)."""
    exponent, kernel = scaled(kernel)
    rows = np.abs(kernel).reshape(len(kernel), -1)
    with np.errstate(over="ignore"):
        found: Matrix = np.ldexp(rows.sum(axis=1) if norm == "linf" else np.linalg.norm(rows, axis=1), exponent) * SLACK
    return found


def constant_norm(layer: TargetLayer, offset: Matrix, norm: Norm) -> float:
    """Return the norm of an offset (outputs,) that is added at every place of the layer's output."""
    if norm == "linf":
        return float(np.abs(offset).max(initial=0.0)) * SLACK
    exponent, offset = scaled(offset)
    return grown(float(np.linalg.norm(offset)), exponent) * math.sqrt(layer.places) * SLACK


def scaled(values: Matrix) -> tuple[int, Matrix]:
    """Return numbers over a power of two near the largest, which is exact, and its exponent.

    So their squares neither overflow nor vanish. What falls below 2^-1074 of the largest is lost, far below SLACK.
    """
    exponent = exponent_of(values)
    return exponent, np.ldexp(values, -exponent)


def exponent_of(values: Matrix) -> int:
    """Return the exponent of the power of two just above the largest number; 0 where all are 0."""
    return math.frexp(float(np.abs(values).max(initial=0.0)))[1]


def grown(value: float, exponent: int) -> float:
    """Return a number times a power of two; infinity where float64 ends."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def step_norm(step: FixedStep, norm: Norm) -> float:
    """Return a Lipschitz constant of a step, which also bounds |step(x)| / |x|.

    A ReLU, a leaky ReLU, a padding with zeros and a flattening have 1, and so has a join, whose inputs `joined` puts
    together. A padding that repeats entries has the root of how often it gives out one of them. A largest value moves
    by at most the largest move in its window: 1 in the largest entry, and in the Euclidean norm the root of the number
    of windows that an entry is in. Averages are linear and fall under Schur's test.
    """
    module = step.module
    if isinstance(module, AVERAGES):
        return _average_norm(step, norm)
    if norm == "l2" and isinstance(module, REPEATS):
        return math.sqrt(_most_copies(step))
    if norm == "l2" and isinstance(module, nn.MaxPool2d):
        return math.sqrt(math.prod(map(_windows, *map(_pair, (module.kernel_size, module.stride, module.dilation)))))
    if norm == "l2" and isinstance(module, nn.AdaptiveMaxPool2d):
        sizes = _pair(module.output_size)
        return math.sqrt(math.prod(_adaptive_windows(*pair) for pair in zip(step.shape[1:], sizes, strict=True)))
    return 1.0


def step_rounding(step: FixedStep, precision: Precision = FLOAT64) -> float:
    """Return a bound of what rounding moves a step's output by, over the size of its input times `step_norm`."""
    module = step.module
    if isinstance(module, AVERAGES):
        return precision.sums(math.prod(step.shape[1:]) + 4) + precision.stored(1)
    if isinstance(module, Add | nn.LeakyReLU):  # one operation; a sum of n has n - 1, of sizes that `joined` adds up
        return precision.sums(2) + precision.stored(1)
    return 0.0


def joined(step: FixedStep, bounds: Sequence[Bound], norm: Norm) -> Bound:
    """Return a bound of what a step reads, from one for each tensor that it reads.

    Sums have the sum of the bounds. Tensors side by side have, in the Euclidean norm, the root of the sum of squares,
    and in the largest entry the largest.
    """
    if len(bounds) == 1:
        return bounds[0]
    if isinstance(step.module, Add):
        return sum(bounds[1:], start=bounds[0]) * SLACK
    if isinstance(bounds[0], Tensor):
        rows = torch.stack([torch.as_tensor(bound) for bound in bounds])
        return rows.amax(dim=0) if norm == "linf" else norms_of_columns(rows)
    return max(bounds) if norm == "linf" else math.hypot(*bounds) * SLACK


def norms_of_columns(rows: Tensor) -> Tensor:
    """Return the Euclidean norm of each column of (rows, columns), which neither overflows nor vanishes."""
    largest = rows.amax(dim=0).clamp(min=1e-300)
    return (rows / largest).norm(dim=0) * largest * SLACK


def _most_copies(step: FixedStep) -> float:
    """Return how often a padding gives out an entry at most."""
    image = torch.zeros(1, 1, *step.shape[1:], dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (copies,) = torch.autograd.grad(step.module(image).sum(), image)
    return float(copies.max())


def _phases(kernel: Matrix, layer: TargetLayer) -> Matrix:
    """Return the kernel of step 1 that does the same on the phases of the input, with the gaps of dilation filled."""
    outputs, inputs = kernel.shape[:2]
    sides = zip(layer.window, layer.dilation, layer.stride, strict=True)
    high, wide = (-(-(gap * (tap - 1) + 1) // step) * step for tap, gap, step in sides)
    filled = np.zeros((outputs, inputs, high, wide))
    down, across = layer.dilation
    filled[:, :, : down * layer.window[0] : down, : across * layer.window[1] : across] = kernel
    rows, columns = layer.stride
    split = filled.reshape(outputs, inputs, high // rows, rows, wide // columns, columns)
    phases: Matrix = split.transpose(0, 1, 3, 5, 2, 4).reshape(outputs, -1, high // rows, wide // columns)
    return phases


def _windows(taps: int, step: int, gap: int) -> int:
    """Return in how many windows an entry is at most, along one side: taps that fall on it as the window moves."""
    return max(Counter(gap * tap % step for tap in range(taps)).values())


def _adaptive_windows(side: int, outputs: int | None) -> int:
    """Return the same for windows from floor(i side / outputs) to ceil((i + 1) side / outputs)."""
    count = side if outputs is None else outputs
    covered = Counter(
        place for i in range(count) for place in range(i * side // count, -(-(i + 1) * side // count))
    )  # fmt: skip
    return max(covered.values())


@torch.enable_grad()
def _average_norm(step: FixedStep, norm: Norm) -> float:
    image = torch.ones(1, 1, *step.shape[1:], dtype=torch.float64, requires_grad=True)
    rows = step.module(image)
    (columns,) = torch.autograd.grad(rows.sum(), image)
    largest = float(rows.detach().max())
    return (largest if norm == "linf" else math.sqrt(largest * float(columns.max()))) * SLACK


def _pair(value: int | tuple[int | None, ...] | None) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value, value)  # type: ignore[return-value, arg-type]
