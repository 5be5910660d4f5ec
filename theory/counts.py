"""How many hidden units and weights a built network took, beside what the theorems say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.bounds import packing_parameters
from theory.constructions.prune import Pruned
from theory.constructions.random_pair import RandomPair

FAILURE = 0.01
"""Probability of failure that the theorem's width is counted for."""


@dataclass(frozen=True)
class LayerCounts:
    """One pair of random layers, against the theorems.

    Attributes:
        hidden: units (channels) of the random layer before the target's layer.
        constant: C with which theorem 1 of Pensia et al. 2020 (with taps, for convolutions as in da Cunha et al. 2022)
            asks for as wide a layer: width = 2 C ln(4 l inputs outputs taps / min(epsilon, FAILURE)). It counts
            the halves of both signs in every layer; a smaller C is a smaller network.
        prunable: weights of the two random layers.
        kept: how many of them stay.
        packing: prunable weights of a network that holds every target of the size of the layer's largest square part
            and of norm 1, with probability 1/2, over the unit ball scaled to the domain (theorem 2 of Pensia et al.
            2020). It bounds nothing for one given target: a smaller network may hold it.

    """

    hidden: int
    constant: float
    prunable: int
    kept: int
    packing: int


def count(
    pairs: Sequence[RandomPair], pruned: Sequence[Pruned], epsilon: float, size: float
) -> tuple[LayerCounts, ...]:
    """Return the counts of each pair.

    Args:
        pairs: the random layers.
        pruned: what stays of them.
        epsilon: that the network was asked for.
        size: of its inputs.

    """
    return tuple(_count(pair, found, len(pairs), epsilon, size) for pair, found in zip(pairs, pruned, strict=True))


def _count(pair: RandomPair, found: Pruned, layers: int, epsilon: float, size: float) -> LayerCounts:
    layer = pair.layer
    logarithm = math.log(4 * layers * layer.kernel.size / min(epsilon, FAILURE))
    return LayerCounts(
        hidden=pair.hidden,
        constant=pair.width / (2.0 * logarithm),
        prunable=sum(weight.count for weight in pair.weights().values()),
        kept=int(np.count_nonzero(found.hop)) + int(np.count_nonzero(found.second)),
        packing=packing_parameters(min(layer.reads, layer.outputs // layer.groups), _over(epsilon, size)),
    )


def _over(epsilon: float, size: float) -> float:
    """Return epsilon over the unit ball; from 1/2 on the packing bound is 0 anyway."""
    return min(1.0, max(epsilon / size, 5e-324)) if size else 1.0
