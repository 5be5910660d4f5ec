"""Which paths of the diamonds stay: subset sums, as in every construction of this package."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import ceil, log2

import numpy as np
import torch
from torch import Tensor

from theory.attention.maps import LinearMap
from theory.attention.network import Diamond, Plan, View
from theory.constructions.prune import PathProblem
from theory.constructions.subset_sums import MOST_ITEMS, choose_subsets
from theory.subset_sum.meet_in_the_middle import available_cores
from theory.target import Matrix


@dataclass(frozen=True, eq=False)
class PrunedMaps:
    """What stays of a random network.

    Attributes:
        masks: by parameter name.
        errors: for each map by how much its numbers are missed, (outputs, inputs), with one column more where there is
            an offset.

    """

    masks: Mapping[str, Tensor]
    errors: tuple[Matrix, ...]


def prune(
    plan: Plan,
    maps: Sequence[LinearMap],
    grown: Mapping[str, Tensor],
    tolerance: float,
    advance: Callable[[int], object],
) -> PrunedMaps:
    """Choose the paths that stay.

    Args:
        plan: of the random network.
        maps: of the target, in their order.
        grown: the random tensors.
        tolerance: the error of a number that is small enough, over the scale of its second hop.
        advance: called with how many numbers were just met.

    """
    masks = {name: torch.zeros(weight.shape, dtype=torch.bool) for name, weight in plan.weights.items()}
    errors = []
    pool = ThreadPoolExecutor(available_cores())  # each column has paths of its own, so that the order is nothing
    try:
        for diamond, wanted in zip(plan.diamonds, maps, strict=True):
            scales = [plan.weights[view.name].scale for view in diamond.seconds]
            choose = partial(_prune_column, diamond, wanted, grown, masks, scales, tolerance)
            columns = []
            for missed in pool.map(choose, range(wanted.inputs + (diamond.bias is not None))):
                columns.append(missed)
                advance(wanted.outputs)
            errors.append(np.stack(columns, axis=1))
    finally:
        pool.shutdown(cancel_futures=True)
    return PrunedMaps(masks, tuple(errors))


def items_for(count: int, tolerance: float) -> int:
    """Return hidden units per input with which nearly all of so many numbers are met: the best of 2^n misses by 2^-n.

    A path of a linear network serves inputs of both signs, so that a block needs no more units than items.
    """
    return min(ceil(log2(max(2.0, count / tolerance))) + 3, 2 * MOST_ITEMS)


def _prune_column(
    diamond: Diamond,
    wanted: LinearMap,
    grown: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    scales: Sequence[float],
    tolerance: float,
    column: int,
) -> Matrix:
    block = slice(column * diamond.width, (column + 1) * diamond.width)
    of_offset = column == wanted.inputs
    assert not of_offset or diamond.bias is not None
    first = diamond.bias if of_offset and diamond.bias is not None else diamond.first
    place = 0 if of_offset else column
    strength = first.of(grown)[block, place].double().numpy()
    values = wanted.offset if of_offset else wanted.matrix[:, column]
    used = np.zeros(diamond.width, np.bool_)
    missed = []
    for view, rows, scale in _with_rows(diamond, grown, values, scales):
        problem = PathProblem(strength, view.of(grown)[:, block].double().numpy(), rows, scale)
        kept, errors = choose_subsets(problem, tolerance * scale)
        view.of(masks)[:, block] = torch.from_numpy(kept)
        used |= kept.any(axis=0)
        missed.append(errors)
    first.of(masks)[block, place] = torch.from_numpy(used)
    return np.concatenate(missed)


def _with_rows(
    diamond: Diamond, grown: Mapping[str, Tensor], values: Matrix, scales: Sequence[float]
) -> Iterator[tuple[View, Matrix, float]]:
    start = 0
    for view, scale in zip(diamond.seconds, scales, strict=True):
        count = len(view.of(grown))
        yield view, values[start : start + count], scale
        start += count
