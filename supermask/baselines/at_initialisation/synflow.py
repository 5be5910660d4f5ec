"""SynFlow (Tanaka et al. 2020): prune step by step by the flow of the synapses, without any data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from tqdm import tqdm

from supermask.baselines.at_initialisation.base import AtInitialisation
from supermask.baselines.at_initialisation.examples import ExampleSource
from supermask.baselines.at_initialisation.probe import evaluating, gradients
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.budget import Pool, Shapes
from supermask.masking.pruning import prune


@dataclass(frozen=True)
class SynFlow(AtInitialisation):
    """Iterative synaptic flow pruning (Tanaka et al. 2020, section 6, equation 2 and algorithm 1).

    R is the sum of the outputs when the input is all ones and every parameter is replaced by its magnitude; the score
    of a weight is its magnitude times dR by it. Step k of n keeps the largest density^(k/n) of the whole network, and
    scores of what is left are computed again before each.

    The network is in evaluation mode: at initialisation the running mean of batch norm is 0 and its variance 1, so that
    it passes on what it gets; biases start at 0 and add nothing. All is computed in float64, on copies: R grows by a
    factor from layer to layer, and float32 ends after twenty or thirty wide ones.

    In a chain of L layers every layer's scores add up to R (theorem 2), so that none is emptied before all are down to
    one weight: a step that divides the number of weights by r can do no harm while (r - 1)(L - 1) < 1. Layers that
    others bypass, as in residual blocks, have no such promise, and the algorithm as published does empty some. With
    the floor of 1 what the paper asks for (axiom "maximal critical compression") holds in every network; in a chain
    the floor changes nothing.

    Attributes:
        iterations: number of steps n.
        floor: the least that each layer keeps, as far as the density leaves that many; 0 is as published.

    """

    name: ClassVar[str] = "synflow"
    iterations: int = 100
    floor: int = 1

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise SupermaskError(f"iterations={self.iterations} is too small; give at least 1.")
        if self.floor < 0:
            raise SupermaskError(f"floor={self.floor} is negative; give 0 or a positive number.")

    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return the scores of the whole network, float64: those of the first step."""
        return flow(network, _ones(sample), network.masks())

    def choose(
        self, network: Sparse, sample: ExampleSource, density: float
    ) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        """Return the masks after the last step, and an order of all weights in place of scores, float64.

        A weight's place in it is the number of the step before which it was last there, plus half its score at that
        step over the largest: the kept weights come first, but for those of the floor, then those that fell last.
        """
        ones, masks = _ones(sample), network.masks()
        shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
        order: dict[str, Tensor] = {name: torch.zeros_like(mask, dtype=torch.float64) for name, mask in masks.items()}
        for step in tqdm(range(1, self.iterations + 1), self.name, leave=False, disable=None, dynamic_ncols=True):
            scores = flow(network, ones, masks)
            places = _places(scores, step)
            order = {name: torch.where(mask, places[name], order[name]) for name, mask in masks.items()}
            masks = prune(scores, self._pools(shapes, density ** (step / self.iterations)), masks)
        return masks, order

    def _pools(self, shapes: Shapes, density: float) -> list[Pool]:
        needed = sum(min(self.floor, math.prod(shape)) for shape in shapes.values())
        return [replace(pool, floor=self.floor * (pool.kept >= needed)) for pool in self.scope.pools(shapes, density)]


def flow(network: Sparse, ones: Tensor, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the synaptic flow through each prunable weight, float64, 0 where it is pruned.

    Args:
        network: left as it was.
        ones: the input, float64.
        masks: of what is left of the network.

    Raises:
        SupermaskError: the network is so deep that the flow leaves the range of float64.

    """
    sizes = {name: parameter.detach().double().abs() for name, parameter in network.model.named_parameters()}
    buffers = {name: buffer.double() for name, buffer in network.model.named_buffers() if buffer.is_floating_point()}
    weights = {name: (sizes[name] * mask).requires_grad_() for name, mask in masks.items()}
    with evaluating(network.model):
        total = functional_call(network.model, {**sizes, **buffers, **weights}, ones).sum()
    slopes = gradients(total, weights)
    scores = {name: (weight * slopes[name]).detach() for name, weight in weights.items()}
    if not all(score.isfinite().all() for score in scores.values()):
        raise SupermaskError("The synaptic flow leaves the range of float64; SynFlow cannot prune a network so deep.")
    return scores


def _ones(sample: ExampleSource) -> Tensor:
    """Return one image of ones; of the examples it takes the shape and the device."""
    images, _ = sample.batch(1)
    return torch.ones_like(images[:1], dtype=torch.float64)


def _places(scores: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
    largest = max((float(score.max()) for score in scores.values() if score.numel()), default=0.0)
    return {name: step + score / (2 * largest or 1.0) for name, score in scores.items()}
