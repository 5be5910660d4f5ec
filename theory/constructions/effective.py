"""What a pruned pair of layers computes, from its own masked weights: P * x+ - N * x- + c, with x+- = max(+-x, 0)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theory.constructions.random_pair import Paths
from theory.target import Matrix, Target, TargetLayer


@dataclass(frozen=True, eq=False)
class Effective:
    """What a pruned pair of layers computes.

    Attributes:
        positive: P, float64 (outputs, inputs / groups, height, width).
        negative: N, likewise; None where inputs are never negative.
        offset: c, float64 (outputs,).
        mass: |second hop| |first hop| summed over paths, by which rounding is bounded; like `positive`.
        offset_mass: the same over the paths of the bias, like `offset`.
        terms: products behind one output at most; those of pruned weights are zeros, which add without rounding.
        outgoing: |second hop| summed over all paths into one output, at most.
        gathered: paths that one entry of P, N or c adds up, at most.

    """

    positive: Matrix
    negative: Matrix | None
    offset: Matrix
    mass: Matrix
    offset_mass: Matrix
    terms: int
    outgoing: float
    gathered: int

    def __call__(self, layer: TargetLayer, x: Tensor) -> Tensor:
        """Return P * x+ - N * x- + c for a layer of this geometry."""
        if self.negative is None:
            return layer.affine(x, self.positive, self.offset)
        return layer.affine(both_signs(x, layer.groups), self._both, self.offset)

    def missed(self, layer: TargetLayer) -> tuple[Matrix, Matrix | None]:
        """Return by how much the layer's kernel is missed for x+ and for x-, [P - W, W - N]."""
        return self.positive - layer.kernel, None if self.negative is None else layer.kernel - self.negative

    @cached_property
    def _both(self) -> Matrix:
        """P and -N side by side, made once: the certificate's search runs it hundreds of times."""
        assert self.negative is not None
        return np.concatenate([self.positive, -self.negative], axis=1)


def both_signs(x: Tensor, groups: int = 1) -> Tensor:
    """Return (batch, 2 * channels, ...): of each group of channels the positive parts, and then the negative ones."""
    if groups == 1:
        return torch.cat([x.relu(), (-x).relu()], dim=1)
    parts = x.unflatten(1, (groups, -1))
    return torch.cat([parts.relu(), (-parts).relu()], dim=2).flatten(1, 2)


def effective(layer: TargetLayer, paths: Paths, *, slope: float) -> Effective:
    """Return what masked paths compute.

    Args:
        layer: of the target, for its geometry and for whether its inputs can be negative.
        paths: with zeros where weights were pruned.
        slope: of negative numbers between the hops: 0 of a ReLU, 1 where nothing stands there.

    """
    hop, second = paths.hop, paths.second
    positive, offset = _sums(layer, second, np.where(hop > 0.0, hop, slope * hop))
    negative = None
    if layer.signed:  # without a ReLU one path serves both signs
        negative = positive if slope == 1.0 else _sums(layer, second, np.where(hop < 0.0, hop, slope * hop))[0]
    mass, offset_mass = _sums(layer, second, np.abs(hop), sizes=True)
    terms = max(int(np.count_nonzero(hops)) for hops in second)  # output by output, as in `_sums`
    outgoing = max(float(np.abs(hops).sum(dtype=np.float64)) for hops in second)
    return Effective(positive, negative, offset, mass, offset_mass, terms, outgoing, _gathered(layer, second))


def _gathered(layer: TargetLayer, second: NDArray[np.floating]) -> int:
    """Return how many paths a weight or a bias has at most; the bias adds up those of all its columns and taps."""
    weights = max(int(np.count_nonzero(hops[: layer.reads], axis=1).max(initial=0)) for hops in second)
    return max(weights, max(int(np.count_nonzero(hops[layer.reads :])) for hops in second))


def errors_of(layer: TargetLayer, found: Effective) -> Matrix:
    """Return by how much each weight and bias of a layer is missed at most, as `Built.errors` has it."""
    halves = [np.abs(half) for half in found.missed(layer) if half is not None]
    worst: Matrix = np.maximum.reduce(halves).reshape(layer.outputs, -1)
    if layer.bias is None:
        return worst
    return np.concatenate([worst, np.abs(found.offset - layer.offset)[:, None]], axis=1)


def run_effective(target: Target, found: Sequence[Callable[[TargetLayer, Tensor], Tensor]], x: Tensor) -> Tensor:
    """Return what a network of these effective layers computes of inputs, float64 (batch, *input_shape)."""
    return target.run(x, map(partial, found, target.layers))


def _sums(
    layer: TargetLayer, second: NDArray[np.floating], hop: Matrix, *, sizes: bool = False
) -> tuple[Matrix, Matrix]:
    """Return the kernel and the offset that paths of these strengths, or their sizes, add up to."""
    columns = second.shape[1]
    sums, each = np.empty((layer.outputs, columns, layer.taps)), layer.outputs // layer.groups
    for output, hops in enumerate(second):  # one by one: sizes of all at once would double the memory
        group = output // each
        own = hop[group * columns : (group + 1) * columns]
        np.einsum("cwt,cw->ct", np.abs(hops) if sizes else hops, own, out=sums[output])
    kernel = sums[:, : layer.reads].reshape(layer.outputs, layer.reads, *layer.window)
    return kernel, sums[:, layer.reads :].sum(axis=(1, 2))
