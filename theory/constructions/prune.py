"""Pruning a pair of random layers to a layer of the target: paths of an input's block meet each of its weights."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from theory.constructions.random_pair import Mask, Paths, RandomPair
from theory.subset_sum.meet_in_the_middle import available_cores
from theory.target import Matrix


@dataclass(frozen=True, eq=False)
class PathProblem:
    """Weights of the target that want paths, each from the same hidden units.

    Attributes:
        strength: what the units make of an input of 1, float64 (units,).
        second: the second hop, float64 (weights, units), uniform on [-scale, scale] before it is looked at.
        wanted: the weights, float64 (weights,), of at most scale / 2.
        scale: of the second hop.

    """

    strength: Matrix
    second: Matrix
    wanted: Matrix
    scale: float

    @property
    def items(self) -> Matrix:
        """What each path contributes, float64 (weights, units)."""
        return self.second * self.strength


class PathChooser(Protocol):
    """A way to meet weights by paths."""

    def __call__(self, problem: PathProblem, tolerance: float) -> tuple[Mask, Matrix]:
        """Return which paths stay, bool (weights, units), and how far each weight is missed, float64 (weights,)."""


@dataclass(frozen=True, eq=False)
class Pruned:
    """Which paths of a pair stay, and how far each weight of the target is missed.

    Attributes:
        hop: bool (columns, width), a first hop stays with any of its paths.
        second: bool (outputs, columns / groups, width, taps).
        errors: float64 (outputs, inputs / groups * taps + 1 with a bias): the larger of the two halves' errors.

    """

    hop: Mask
    second: Mask
    errors: Matrix


def prune_pair(
    pair: RandomPair,
    paths: Paths,
    choose: PathChooser,
    *,
    halves: Sequence[int],
    tolerance: float,
    advance: Callable[[int], object],
    served: float = 1.0,
) -> Pruned:
    """Choose the paths of one layer.

    Args:
        pair: the two random layers.
        paths: through them, before pruning.
        choose: how a weight is met.
        halves: signs of the input that are served: (1, -1) for any input, (1,) where inputs are not negative, (0,) in
            a linear network, where one path serves both.
        tolerance: error of a weight that is small enough.
        advance: called with the number of weights just processed, by the calling thread.
        served: which part of a weight, but not of a bias, the paths of one half are to meet. Errors are of that part.

    """
    layer = pair.layer
    second = np.zeros(paths.second.shape, np.bool_)
    errors = np.zeros((layer.outputs, pair.each, layer.taps))
    parts, outputs = layer.groups, layer.outputs // layer.groups

    def prune(column: int) -> int:
        part, block = divmod(column, pair.each)
        rows = slice(part * outputs, (part + 1) * outputs)
        met = (
            _prune_half(pair, paths, choose, Block(column, rows, block, served), half, tolerance, second, errors)
            for half in _halves(halves, of_bias=block == layer.reads)
        )
        return sum(met)

    pool = ThreadPoolExecutor(available_cores())  # each column has paths of its own, so that the order is nothing
    try:
        for met in pool.map(prune, range(pair.columns)):
            advance(met)
    finally:
        pool.shutdown(cancel_futures=True)
    hop: Mask = np.logical_or.reduce(second.reshape(parts, outputs, *second.shape[1:]), axis=(1, 4))
    return Pruned(hop.reshape(pair.columns, pair.width), second, _in_a_row(errors, layer.reads))


def weights_to_meet(pair: RandomPair, halves: Sequence[int]) -> int:
    """Return how many weights `prune_pair` will meet: one per weight of the target and half, and the biases."""
    layer = pair.layer
    return len(halves) * layer.kernel.size + (layer.outputs if layer.bias is not None else 0)


@dataclass(frozen=True)
class Block:
    """One block of hidden units.

    Attributes:
        column: its number among all.
        rows: the outputs that read it, those of its group.
        place: its number in its group; the last is that of the bias, where there is one.
        served: which part of a weight the paths of one half are to meet.

    """

    column: int
    rows: slice
    place: int
    served: float


def _prune_half(
    pair: RandomPair,
    paths: Paths,
    choose: PathChooser,
    block: Block,
    half: int,
    tolerance: float,
    second: Mask,
    errors: Matrix,
) -> int:
    """Meet the weights of a block for inputs of one sign, and return how many there are.

    What stays goes into `second`, (outputs, columns / groups, width, taps), and the errors into `errors`, (outputs,
    columns / groups, taps).
    """
    layer, rows, place = pair.layer, block.rows, block.place
    units, strength = _serving(paths.hop[block.column], half)
    # (outputs, units, taps), a block at a time: all in float64 would double the memory of the random network
    hops = paths.second[rows, place][:, units].astype(np.float64)
    if place == layer.reads:
        problem = PathProblem(strength.repeat(layer.taps), _flat(hops), layer.offset[rows], pair.scale)
        kept, missed = choose(problem, tolerance)
        second[rows, place, units] = kept.reshape(hops.shape)
        errors[rows, place, 0] = missed
    else:
        wanted = layer.kernel[rows, place].reshape(-1) * ((half or 1) * block.served)
        problem = PathProblem(strength, _flat(hops.swapaxes(1, 2), rows=wanted.size), wanted, pair.scale)
        kept, missed = choose(problem, tolerance)
        second[rows, place, units] = kept.reshape(len(hops), layer.taps, -1).swapaxes(1, 2)
        # the halves have units of their own, and a weight misses by the worse of the two
        found = errors[rows, place]
        np.maximum(found, missed.reshape(found.shape), out=found)
    return len(missed)


def _halves(halves: Sequence[int], *, of_bias: bool) -> Iterator[int]:
    """Yield the signs that a column needs: the bias's input is the constant 1."""
    if of_bias and 0 not in halves:
        yield 1
    else:
        yield from halves


def _serving(hop: Matrix, half: int) -> tuple[NDArray[np.int64], Matrix]:
    """Return the units of a block that serve a half, and their strength.

    A unit with first hop u > 0 is active for x > 0 and gives u v x; one with u < 0 for x < 0 and gives |u| v |x|.
    """
    units = np.flatnonzero(hop * half > 0) if half else np.arange(len(hop))
    return units, np.abs(hop[units]) if half else hop[units]


def _flat(hops: Matrix, rows: int | None = None) -> Matrix:
    return hops.reshape(len(hops) if rows is None else rows, -1)


def _in_a_row(errors: Matrix, reads: int) -> Matrix:
    """Return (outputs, reads * taps + 1 with a bias): one error per weight, one per bias."""
    of_weights = errors[:, :reads].reshape(len(errors), -1)
    return np.concatenate([of_weights, errors[:, reads:, 0]], axis=1)
