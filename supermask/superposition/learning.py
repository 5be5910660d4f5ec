"""Learning one task after another, and the scenarios in which the tasks are told apart.

Wortsman et al. 2020 name them by whether the task is Given in training and in inference: GG (section 3.2), GN (3.3; GNs
where the tasks share their labels, GNu where a label means something else in each), NN (3.4).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from supermask.data.data_set import DataSet
from supermask.data.tasks import without_test
from supermask.errors import SupermaskError
from supermask.random.distributions import Distribution
from supermask.random.stream import philox
from supermask.random.weights import RandomWeight
from supermask.search.edge_popup import SCORES, EdgePopup
from supermask.superposition.network import ENTROPY, Objective
from supermask.superposition.superposition import Superposition
from supermask.ticket import Ticket
from supermask.training import Outcome, Recipe, train


class Start(ABC):
    """How the first scores of a task are made; they are positive or negative, and ranked by magnitude or sign alike."""

    @abstractmethod
    def scores(self, weights: Mapping[str, RandomWeight], learned: Sequence[Ticket], seed: int) -> dict[str, Tensor]:
        """Return the first scores by parameter name, float32 on the CPU.

        Args:
            weights: the random weights that have scores, by parameter name.
            learned: the tickets of the tasks so far; the new one comes after them.
            seed: of the random network.

        """


@dataclass(frozen=True)
class Fresh(Start):
    """Drawn for each task from (seed, task, parameter name) (Wortsman et al. 2020, section 3.2).

    Attributes:
        distribution: of the scores; the default is that of edge-popup.

    """

    distribution: Distribution = SCORES

    def scores(self, weights: Mapping[str, RandomWeight], learned: Sequence[Ticket], seed: int) -> dict[str, Tensor]:
        """Return the first scores."""
        own = int(philox(seed, "scores of task", len(learned)).random_raw()) >> 1  # a seed has 63 bits
        return {
            name: RandomWeight(weight.shape, self.distribution, weight.fans).grow(own, name, "scores")
            for name, weight in weights.items()
        }


@dataclass(frozen=True)
class RunningMean(Start):
    """The mean of all masks so far, "transfer" (Wortsman et al. 2020, section 3.2); fresh scores for the first task.

    Fresh scores order the weights that equally many tasks keep: a score of 0 would have no gradient, and ties
    would fall to the first weights of the tensor. Scaled to the root mean square of fresh scores, so that a learning
    rate means the same for every task.

    Attributes:
        fresh: of the fresh scores.

    """

    fresh: Fresh = Fresh()

    def scores(self, weights: Mapping[str, RandomWeight], learned: Sequence[Ticket], seed: int) -> dict[str, Tensor]:
        """Return the first scores."""
        fresh = self.fresh.scores(weights, learned, seed)
        if not learned:
            return fresh
        return {name: _mean([ticket.masks[name] for ticket in learned], fresh[name]) for name in weights}


def _mean(masks: Sequence[Tensor], fresh: Tensor) -> Tensor:
    if not fresh.numel():
        return fresh
    kept = torch.stack(list(masks)).sum(0).to(torch.float32)
    size = fresh.abs()
    ranked = kept + (size + size.mean()) / (4.0 * size.max())  # adds less than one task would
    return ranked * (fresh.square().mean() / ranked.square().mean()).sqrt()


Search = Callable[[nn.Module], EdgePopup]
HALF = partial(EdgePopup, density=0.5, seed=0, score="signed", scaled=False)
"""What comes closest to the authors' masks for tasks that are inferred: scores above a threshold of 0 (section 4.2).

Half of the weights is what that threshold keeps at first. Weights scaled by 1/sqrt(density) do as well when the task is
given, but the gradient tells their masks apart less well (experiments/results/superposition.md).
"""


class _Learning:
    """One search, put to the start of each task, and the superposition of what it found."""

    def __init__(self, model: nn.Module, search: Search = HALF, *, start: Start | None = None) -> None:
        self.superposition = Superposition(deepcopy(model))
        self._start = start or Fresh()
        self._search = search(deepcopy(model))
        if self._search.given:
            raise SupermaskError(
                "The search is over given weights, and tasks are learned over one random network; leave weights='given'"
                " out."
            )
        self._untouched = deepcopy(self._search.state_dict())

    def _begin(self, learned: Sequence[Ticket]) -> None:
        """Put the search at the start of the task that comes after those learned."""
        self._search.load_state_dict(self._untouched)
        _take(self._search, self._start, learned)

    def _train(self, data: DataSet, recipe: Recipe, seed: int, options: Mapping[str, Any]) -> tuple[Outcome, Ticket]:
        outcome = train(self._search, without_test(data), recipe, seed=seed, **options)
        return outcome, self._search.ticket(data=data.name)


class Learner(_Learning):
    """Learns tasks that are given in training, one after another, in one random network (scenarios GG and GN).

    Training a task leaves the others as they are, to the bit. The test set is not read: all tasks are tested
    together at the end, with `measure`.

    Args:
        model: freshly built; stays as it is.
        search: makes the search of a model; its seed is that of the random network.
        start: the first scores of each task; `Fresh` by default.

    Attributes:
        superposition: the tasks learned so far, over a model of its own.

    Raises:
        SupermaskError: the search does not take the model.

    """

    def learn(self, data: DataSet, recipe: Recipe, *, seed: int, **options: Any) -> Outcome:
        """Search for the mask of a new task, the next in number, and return how its training went.

        Args:
            data: of the task; its validation part chooses the step.
            recipe: of the training.
            seed: of the order of the examples.
            **options: of `supermask.training.train`, e.g. device or progress.

        Raises:
            SupermaskError: as `supermask.training.train` raises it.

        """
        self._begin(self.superposition.tickets)
        outcome, ticket = self._train(data, recipe, seed, options)
        self.superposition.add(ticket)
        return outcome


@dataclass(frozen=True)
class Seen:
    """What a `TaskFreeLearner` made of some data.

    Attributes:
        task: the task that it took the data to be of.
        new: whether the task is one that it had not seen.
        confidence: k max nu, which is 1 where nothing tells the masks apart; None before the first task.
        outcome: of the training.

    """

    task: int
    new: bool
    confidence: float | None
    outcome: Outcome


class TaskFreeLearner(_Learning):
    """Learns from a stream whose tasks nobody names (scenario NN, section 3.4).

    A mask is allocated when no present mask stands out from the others: with nu = softmax(-dH/dalpha) at alpha = 1/k,
    data is new when k max nu < 1 + epsilon. Else the mask with the largest nu is trained on.

    With one mask k max nu is 1, and any data would be new. As in the authors' code, masks that were never trained fill
    up to `least`; data that looks most like one of those is new too (their code then trains that mask without counting
    it). Their code has k max nu < 1.125, which is the epsilon of section 4.3.

    Args:
        model: freshly built; stays as it is.
        search: makes the search of a model; its seed is that of the random network.
        start: the first scores of each task; `Fresh` by default.
        epsilon: how far from uniform nu has to be; 2^-3 in section 4.3. The step of the entropy grows with the number
            of outputs, so that other networks want another.
        least: masks among which data is judged. Masks that were never trained make data look known, since any trained
            mask is surer than they are: with 2, they are needed for the second task alone.
        objective: whose gradient tells the masks apart.

    Attributes:
        superposition: the tasks found so far, over a model of its own.

    Raises:
        SupermaskError: epsilon or least is out of range, or the search does not take the model.

    """

    def __init__(
        self,
        model: nn.Module,
        search: Search = HALF,
        *,
        start: Start | None = None,
        epsilon: float = 0.125,
        least: int = 5,
        objective: Objective = ENTROPY,
    ) -> None:
        if not 0.0 < epsilon < math.inf or least < 2:
            raise SupermaskError(f"epsilon={epsilon}, least={least} do not fit: epsilon is positive, least 2 or more.")
        super().__init__(model, search, start=start)
        self.epsilon, self.least, self.objective = epsilon, least, objective
        self._states: list[dict[str, Any]] = []

    def see(self, data: DataSet, recipe: Recipe, *, seed: int, **options: Any) -> Seen:
        """Take some data of one task for a known or a new task, train that task's mask on it, and return which it was.

        Args:
            data: of the task; the first batch of its training part is compared with the tasks so far.
            recipe: of the training; the optimizer starts without state.
            seed: of the order of the examples.
            **options: of `supermask.training.train`, e.g. progress.

        Raises:
            SupermaskError: as `supermask.training.train` raises it.

        """
        known, confidence = self.recognise(data.normalize(data.train.images[: recipe.batch_size]))
        if known is None:
            self._begin(self.superposition.tickets)
        else:
            self._search.load_state_dict(self._states[known])
        outcome, ticket = self._train(data, recipe, seed, options)
        if known is None:
            self.superposition.add(ticket)
            self._states.append({})
        else:
            self.superposition.replace(known, ticket)
        task = len(self.superposition) - 1 if known is None else known
        self._states[task] = deepcopy(self._search.state_dict())
        return Seen(task, known is None, confidence, outcome)

    def recognise(self, inputs: Tensor) -> tuple[int | None, float | None]:
        """Return the task of a batch, None if it is new, and k max nu, None before the first task.

        Raises:
            SupermaskError: there are no inputs, or the model gives no logits (batch, outputs).

        """
        if not len(self.superposition):
            return None, None
        filled = list(self.superposition.tickets)
        while len(filled) < self.least:
            self._begin(filled)
            filled.append(self._search.ticket())
        judged = self.superposition.extended(filled[len(self.superposition) :])
        k = len(judged)
        gradient = judged.gradient(inputs, torch.full((k,), 1.0 / k), self.objective)
        confidence = k * float((-gradient.double()).softmax(0).max())
        task = int(gradient.argmin())
        return (task if is_known(confidence, self.epsilon) and task < len(self.superposition) else None), confidence


def is_known(confidence: float, epsilon: float) -> bool:
    """Return whether data with this k max nu is of a task seen before: unless k max nu < 1 + epsilon (section 3.4)."""
    return confidence >= 1.0 + epsilon


@torch.no_grad()
def _take(search: EdgePopup, start: Start, learned: Sequence[Ticket]) -> None:
    """Let a search that has not begun take its first scores, and the masks that they choose."""
    network = search.network
    first = start.scores({name: network.weights[name] for name in network.masked}, learned, network.seed)
    for name, scores in search.scores().items():
        scores.copy_(first[name])
    search.steps = -1  # the step that follows is that before the first
    search.step()
