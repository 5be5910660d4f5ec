"""Concrete ticket search: a mask at initialisation, by gradients of the chances that weights are kept."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from tqdm.auto import tqdm

from supermask.baselines.at_initialisation.base import AtInitialisation
from supermask.baselines.at_initialisation.examples import ExampleSource
from supermask.baselines.at_initialisation.probe import gradients, outputs
from supermask.baselines.sparse import Sparse
from supermask.data.batch import Batch, examples_in, mapped
from supermask.errors import SupermaskError
from supermask.random.keyed import keyed_generator, keyed_permutation
from supermask.training.objective import Objective, logits_of

_STIFF = 10.0  # a density that is a tenth off is pushed with all force
_CLOSE = 1e-6  # of a uniform number to 0 and 1, whose logarithms are infinite


def reverse_divergence(sparse: Any, dense: Any) -> Tensor:
    """Return the mean Kullback-Leibler divergence of the dense network's classes from the sparse one's.

    That is the sum of q (log q - log p), with q of the sparse outputs and p of the dense ones.

    Args:
        sparse: outputs with logits (..., classes).
        dense: of the same examples.

    Raises:
        SupermaskError: the outputs hold no logits.

    """
    own, other = logits_of(sparse), logits_of(dense)
    if own is None or other is None:
        raise SupermaskError("concrete_tickets compares logits, and the outputs hold none; give objective=loss.")
    q, p = log_softmax(own.float(), -1), log_softmax(other.float(), -1)
    return (q.exp() * (q - p)).sum(-1).mean()


@dataclass(frozen=True)
class ConcreteTickets(AtInitialisation):
    """Concrete ticket search: a mask that lets the sparse network do what the dense one does (Arora & Teuscher 2025).

    arXiv 2512.07142. Each weight, which stays as it is, has a chance to be kept, sigmoid(a). A step draws a gate from
    the binary concrete distribution for each, z = sigmoid((log u - log(1 - u) + a) / T), and follows the gradients, by
    the a, of an objective of the network with weights w z: the reverse divergence between its classes and those of the
    dense network ("CTS-KL"), or the loss. Then the largest a of the network are kept, and trained, from the initial
    weights or, as the paper does near initialisation, from those of `prune_step`.

    Read were the abstract of the paper and summaries of it, not its algorithm. So the balance between the objective and
    the density is ours: at each step the gradient of the expected density gets the norm of the objective's, of the
    sign that brings it nearer to the density that is due, and less within a tenth of that; the density due falls
    exponentially and is reached after half of the steps. Ours are also the numbers of steps and examples, Adam's rate,
    and the first chance.

    Attributes:
        objective: "reverse_kl", or "loss".
        steps: of Adam.
        batch: examples of a step.
        examples: training examples that are looked at again and again; all of them, where there are fewer.
        rate: of Adam, for the a.
        temperature: T.
        first_chance: that a weight is kept in the beginning.

    """

    name: ClassVar[str] = "concrete_tickets"
    objective: Literal["reverse_kl", "loss"] = "reverse_kl"
    steps: int = 600
    batch: int = 128
    examples: int = 10_000
    rate: float = 0.1
    temperature: float = 2.0 / 3.0
    first_chance: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.steps, self.batch, self.examples) < 1:
            raise SupermaskError(
                f"{self.name}: steps={self.steps}, batch={self.batch}, examples={self.examples} do not fit; each is 1"
                " or more."
            )
        if not (0.0 < self.rate < math.inf and 0.0 < self.temperature < math.inf and 0.0 < self.first_chance < 1.0):
            raise SupermaskError(
                f"{self.name}: rate={self.rate}, temperature={self.temperature}, first_chance={self.first_chance} do"
                " not fit: the first two are positive, the third is in (0, 1)."
            )
        if self.objective not in ("reverse_kl", "loss"):
            raise SupermaskError(f"{self.name}: unknown objective={self.objective!r}; known are reverse_kl, loss.")

    def scores(self, network: Sparse, sample: ExampleSource) -> Mapping[str, Tensor]:
        """Return the a of a search down to half of the weights; `choose` searches for the density."""
        return self._search(network, sample, 0.5)

    def choose(
        self, network: Sparse, sample: ExampleSource, density: float
    ) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        """Return the masks of the largest a, and the a."""
        scores = self._search(network, sample, density)
        return self.masks(scores, density), scores

    def density_due(self, step: int, density: float) -> float:
        """Return the expected density that is due after so many steps."""
        return self.first_chance * (max(density, _CLOSE) / self.first_chance) ** min(1.0, 2 * step / self.steps)

    def _search(self, network: Sparse, sample: ExampleSource, density: float) -> dict[str, Tensor]:
        weights = network.weights()
        first = math.log(self.first_chance / (1.0 - self.first_chance))
        chances = {name: torch.full_like(weight, first, requires_grad=True) for name, weight in weights.items()}
        optimizer = torch.optim.Adam(chances.values(), lr=self.rate)
        size = sum(weight.numel() for weight in weights.values())
        batches = self._batches(sample)
        for step in tqdm(range(self.steps), self.name, leave=False, disable=None, dynamic_ncols=True):
            gates = {name: self._gate(chance, sample.seed, name, step) for name, chance in chances.items()}
            gated = {name: weight * gates[name] for name, weight in weights.items()}
            slopes = gradients(self._cost(network, gated, next(batches), sample.objective), chances)
            surplus, falling = _expected(chances, size, self.density_due(step + 1, density))
            factor = surplus * _norm(slopes) / max(_norm(falling), torch.finfo(torch.float32).tiny)
            for name, chance in chances.items():
                chance.grad = slopes[name] + factor * falling[name]
            optimizer.step()
        return {name: chance.detach() for name, chance in chances.items()}

    def _cost(self, network: Sparse, gated: Mapping[str, Tensor], batch: Batch, objective: Objective) -> Tensor:
        found = outputs(network, gated, batch, objective)
        if self.objective == "loss":
            return objective.cost(found, batch.targets)
        with torch.no_grad():
            dense = outputs(network, network.weights(), batch, objective)
        return reverse_divergence(found, dense)

    def _gate(self, chance: Tensor, seed: int, name: str, step: int) -> Tensor:
        drawn = keyed_generator(seed, self.name, name, step).random(chance.numel(), dtype="float32")
        u = torch.from_numpy(drawn).to(chance.device, chance.dtype).view(chance.shape).clamp(_CLOSE, 1.0 - _CLOSE)
        return torch.sigmoid((u.log() - (-u).log1p() + chance) / self.temperature)

    def _batches(self, sample: ExampleSource) -> Iterator[Batch]:
        """Yield batches of the examples, in another order each time that all were seen."""
        whole = sample.up_to(self.examples)
        count, epoch = examples_in(whole), 0
        size = min(self.batch, count)
        while True:
            order = torch.from_numpy(keyed_permutation(count, sample.seed, self.name, epoch))
            for start in range(0, count - size + 1, size):
                yield _selected(whole, order[start : start + size])
            epoch += 1


def _selected(batch: Batch, places: Tensor) -> Batch:
    inputs, targets = (mapped(part, lambda tensor: tensor[places.to(tensor.device)]) for part in batch)
    return Batch(inputs, targets)


@torch.no_grad()
def _expected(chances: Mapping[str, Tensor], size: int, due: float) -> tuple[float, dict[str, Tensor]]:
    """Return how hard to push towards the density due, from -1 to 1, and the gradient of the expected density."""
    kept = {name: torch.sigmoid(chance) for name, chance in chances.items()}
    expected = float(sum(float(each.sum()) for each in kept.values())) / size
    falling = {name: each * (1.0 - each) / size for name, each in kept.items()}
    return max(-1.0, min(1.0, _STIFF * (expected - due) / due)), falling


def _norm(slopes: Mapping[str, Tensor]) -> float:
    return float(torch.stack([slope.square().sum() for slope in slopes.values()]).sum().sqrt())
