"""SynFlow (Tanaka et al. 2020): prune step by step by the flow of the synapses, without any data."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from tqdm.auto import tqdm

from supermask.baselines.at_initialisation.base import AtInitialisation
from supermask.baselines.at_initialisation.examples import ExampleSource
from supermask.baselines.at_initialisation.probe import evaluating, gradients
from supermask.baselines.at_initialisation.sieve import Sieve
from supermask.baselines.sparse import Sparse
from supermask.data.batch import arguments, mapped
from supermask.errors import SupermaskError
from supermask.masking.budget import Pool, Shapes
from supermask.masking.kernels import let_fall, write_products
from supermask.masking.selection import Selection
from supermask.training.objective import logits_of

MOST_ROUNDS = 100_000
"""Steps of pruning; the paper finds no gain beyond a hundred."""


@dataclass(frozen=True)
class SynFlow(AtInitialisation):
    """Iterative synaptic flow pruning (Tanaka et al. 2020, section 6, equation 2 and algorithm 1).

    R is the sum of the outputs when the input is all ones and every parameter is replaced by its magnitude; the score
    of a weight is its magnitude times dR by it. Step k of n keeps the largest density^(k/n) of the whole network, and
    scores of what is left are computed again before each.

    The network is in evaluation mode: at initialisation the running mean of batch norm is 0 and its variance 1, so that
    it passes on what it gets; biases start at 0 and add nothing. All is computed in float64, on copies: R grows by a
    factor from layer to layer, and float32 ends after twenty or thirty wide ones.

    Token ids cannot be ones. They stand for one-hot vectors, which an embedding multiplies its matrix with; with all
    ones in their place every row goes in, so that an embedding returns the sum of its rows at each position, whatever
    the ids. So no word of the examples is preferred, and the scores of an embedding add up to R as those of other
    layers do. Other integers, e.g. an attention mask, are those of the first example. What is not linear in the
    positive numbers, as layer norm and softmax, breaks the sum; the paper has neither.

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
        super().__post_init__()
        if not 1 <= self.iterations <= MOST_ROUNDS:
            raise SupermaskError(f"iterations={self.iterations} is out of range; give from 1 to {MOST_ROUNDS:,}.")
        if self.floor < 0:
            raise SupermaskError(f"floor={self.floor} is negative; give 0 or a positive number.")

    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return the scores of the whole network, float64: those of the first step."""
        flow = Flow(network, _ones(sample))
        scores, _ = flow.scores(flow.slopes())
        return {name: score.masked_fill(~flow.masks[name], 0.0) for name, score in scores.items()}

    def choose(
        self, network: Sparse, sample: ExampleSource, density: float
    ) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        """Return the masks after the last step, and an order of all weights in place of scores, float64.

        A weight's place in it is the number of the step before which it was last there, plus half its score at that
        step over the largest: the kept weights come first, but for those of the floor, then those that fell last.
        """
        flow, selection = Flow(network, _ones(sample)), Selection(signed=True)
        shapes = {name: tuple(mask.shape) for name, mask in flow.masks.items()}
        order: dict[str, Tensor] = {name: torch.zeros_like(each) for name, each in flow.weights.items()}
        sieve = Sieve(flow.masks, flow.values, order) if Sieve.suits(flow.masks, flow.values) else None
        for step in tqdm(range(1, self.iterations + 1), self.name, leave=False, disable=None, dynamic_ncols=True):
            slopes, last = flow.slopes(), step == self.iterations
            pools = self._pools(shapes, density ** (step / self.iterations))
            if sieve and len(pools) == 1 and sieve.fall(slopes, pools[0], step, last=last):
                continue
            before = {name: mask.clone() for name, mask in flow.masks.items()}
            scores, largest = flow.scores(slopes)
            selection.select(pools, scores, flow.masks)
            for name, mask in flow.masks.items():
                # the place of what stays is known only at the end, and its weight not needed then
                after = torch.zeros_like(mask) if last else mask
                numbers = step, 2 * largest or 1.0
                let_fall(scores[name], before[name], after, *numbers, order[name], flow.values[name])
            if sieve:
                sieve.forget()
        return flow.masks, order

    def _pools(self, shapes: Shapes, density: float) -> list[Pool]:
        needed = sum(min(self.floor, math.prod(shape)) for shape in shapes.values())
        return [replace(pool, floor=self.floor * (pool.kept >= needed)) for pool in self.scope.pools(shapes, density)]


class Flow:
    """The synaptic flow through a network whose weights are pruned step by step.

    Args:
        network: left as it was.
        ones: the inputs, floating ones float64.

    Attributes:
        masks: of what is left, by name; a selection writes them.
        weights: float64 by name, 0 where they are pruned.
        values: the same tensors, detached, to be set to 0 where the masks change.

    """

    def __init__(self, network: Sparse, ones: Any) -> None:
        self._model, self._ones = network.model, ones
        # a copy of each, and no second one: the largest network that fits is the one that is pruned
        sizes = {
            name: parameter.detach().to(torch.float64, copy=True).abs_()
            for name, parameter in network.model.named_parameters()
        }
        buffers = network.model.named_buffers()
        self._fixed = {**sizes, **{name: buffer.double() for name, buffer in buffers if buffer.is_floating_point()}}
        self.masks = network.masks()
        self.weights = {name: sizes[name].mul_(mask).requires_grad_() for name, mask in self.masks.items()}
        self._scores: dict[str, Tensor] = {}
        self.values = {name: weight.detach() for name, weight in self.weights.items()}

    def slopes(self) -> dict[str, Tensor]:
        """Return the derivatives of R by the weights, float64 by name.

        Raises:
            SupermaskError: the network's outputs have no logits.

        """
        args, keywords = arguments(self._ones)
        with evaluating(self._model), _embedding_all(self._model):
            outputs = functional_call(self._model, {**self._fixed, **self.weights}, args, keywords)
        logits = logits_of(outputs)
        if logits is None:
            raise SupermaskError(f"SynFlow sums logits, which outputs of type {type(outputs).__name__} do not have.")
        return gradients(logits.sum(), self.weights)

    def scores(self, slopes: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        """Return the flow through each weight by name, float64, -infinity where it is pruned, and the largest.

        The tensors are the same at every call.

        Args:
            slopes: as `slopes` returned them.

        Raises:
            SupermaskError: the network is so deep that the flow leaves the range of float64.

        """
        self._scores = self._scores or {name: torch.empty_like(weight) for name, weight in self.values.items()}
        found = [
            write_products(self.values[name], slopes[name], mask, self._scores[name])
            for name, mask in self.masks.items()
        ]
        if any(map(math.isnan, found)):
            raise SupermaskError(
                "The synaptic flow leaves the range of float64; SynFlow cannot prune a network so deep."
            )
        return self._scores, max(found, default=0.0)


def _ones(sample: ExampleSource) -> Any:
    """Return inputs of ones, float64; of the examples they take the shape and the device, and integers as they are."""

    def ones(tensor: Tensor) -> Tensor:
        one = tensor[:1]
        return torch.ones_like(one, dtype=torch.float64) if one.is_floating_point() or one.dtype == torch.uint8 else one

    return mapped(sample.batch(1).inputs, ones)


@contextmanager
def _embedding_all(model: nn.Module) -> Iterator[None]:
    """Let every embedding return the sum over all of its rows, whatever indices it is asked for."""

    def add(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return module.weight.sum(0).expand_as(output).clone()  # networks may add to it in place

    kinds = nn.Embedding | nn.EmbeddingBag
    handles = [each.register_forward_hook(add) for each in model.modules() if isinstance(each, kinds)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
