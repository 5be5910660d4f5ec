"""What a method of the comparison is, and what it works with."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from supermask.baselines.sample import Sample
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.data import DataSet
from supermask.search import Search
from supermask.search.algorithm import Algorithm
from supermask.search.rule import Rule
from supermask.ticket import Ticket
from supermask.training import Loss, Objective, Outcome, Recipe, State, Subject

_ANOTHER = 1_000_003  # away from the seeds of other runs


class Loop(Protocol):
    """The training loop with what does not change within a run filled in."""

    def __call__(
        self,
        subject: Subject,
        recipe: Recipe,
        *,
        seed: int,
        folder: Path | None,
        resume: bool,
        start: int | State,
        keep: Collection[int],
        title: str | None,
        loss: Loss | None = None,
    ) -> Outcome:
        """Train; `supermask.training.train` says how."""


@dataclass(frozen=True)
class RunContext:
    """One network, one data set, one seed and one density, and a folder that remembers the stages of the training.

    Attributes:
        data: the data set.
        recipe: how networks are trained.
        seed: of the weights, and of all that a method draws.
        density: fraction of the prunable weights that is to be kept.
        device: where to compute.
        build: returns the network, freshly built.
        loop: trains.
        folder: of the run; None keeps nothing.
        stages: folder of the stages, which runs that differ in their density alone share.
        resume: whether the run goes on from its checkpoint.
        weights: distribution of the initial weights of what is trained.
        include: parameters that can be pruned besides the weights of two or more dimensions.
        dense: weights that are not pruned and do not count as prunable.
        start_search: returns a search by a rule over a fresh network, with the run's options.
        search_recipe: how a search is trained whose ticket is then trained; None is `recipe`.
        order: seed of the order of the examples, the augmentation and dropout; None is `seed`.
        loss: a function of outputs and targets that trainings minimise; None is the outputs' own, or the cross entropy.

    """

    data: DataSet
    recipe: Recipe
    seed: int
    density: float
    device: torch.device
    build: Callable[[], nn.Module]
    loop: Loop
    folder: Path | None = None
    stages: Path | None = None
    resume: bool = False
    weights: str = "kaiming_normal"
    include: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    start_search: Callable[[Rule], Search] | None = None
    search_recipe: Recipe | None = None
    order: int | None = None
    loss: Loss | None = None

    @cached_property
    def whole(self) -> Ticket:
        """The ticket of the dense network at its initialisation."""
        return whole_ticket(self.build(), seed=self.seed, weights=self.weights, include=self.include, dense=self.dense)

    @property
    def steps(self) -> int:
        """Optimizer steps of the recipe."""
        return self.recipe.steps(len(self.data.train))

    @property
    def sample(self) -> Sample:
        """Training examples to look at before any training."""
        return Sample(self.data, self.seed, self.device, Objective(self.loss))

    def sparse(self, masks: Mapping[str, Tensor] | None = None, ticket: Ticket | None = None) -> Sparse:
        """Return the network at its initialisation, pruned: by masks, or the network of another ticket."""
        ticket = ticket or self.whole
        if masks is not None:
            ticket = replace(ticket, masks={name: mask.cpu() for name, mask in masks.items()})
        network = Sparse(self.build(), ticket)
        network.model.to(self.device)
        return network

    def drawn_again(self, ticket: Ticket) -> Ticket:
        """Return the ticket with the masks of this one and the network's weights drawn from another seed."""
        other = whole_ticket(
            self.build(),
            seed=(self.seed + _ANOTHER) % 2**63,
            weights=self.weights,
            include=self.include,
            dense=self.dense,
        )
        return replace(other, masks=ticket.masks)

    def within(self, name: str) -> "RunContext":
        """Return the context with stages of their own: for another method, or other options, on the same network.

        Methods name their stages by what differs within one of them, so that two methods may give one name to two
        trainings.
        """
        return self if self.stages is None else replace(self, stages=self.stages / name)

    def search(self, rule: Rule) -> Search:
        """Return a search by a rule over a fresh network, with the run's options."""
        assert self.start_search is not None
        return self.start_search(rule)

    def carry_out(self, way: Algorithm) -> "MethodResult":
        """Find a network by a method, or search for one by a rule, and train it."""
        if isinstance(way, Method):
            return way.run(self)
        assert isinstance(way, Rule)
        search = self.search(way)
        outcome = self.train(search, recipe=way.recipe(self.recipe))
        return MethodResult(search, outcome, search.ranking(), details=way.details(outcome))

    def train(
        self,
        subject: Subject,
        *,
        stage: str | None = None,
        recipe: Recipe | None = None,
        start: int | State = 0,
        keep: Collection[int] = (),
        order: int | None = None,
    ) -> Outcome:
        """Train a subject, and leave it in the state of its best step.

        Args:
            subject: of this run's network.
            stage: of a training that others follow: a name that tells it from all other stages of this method, network
                and seed, at other densities too. It is not repeated by a run that finds it finished. None is the last
                training, or the only one.
            recipe: another than the run's.
            start: optimizer step to begin at, as for a rewound network, or the state of another training.
            keep: optimizer steps whose states the outcome keeps.
            order: another seed of the order of the examples than the run's.

        """
        folder = self.folder if stage is None or self.stages is None else self.stages / stage
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        return self.loop(
            subject,
            recipe or self.recipe,
            seed=next(seed for seed in (order, self.order, self.seed) if seed is not None),
            folder=folder,
            resume=self.resume or stage is not None,
            start=start,
            keep=keep,
            title=subject.name if stage is None else f"{subject.name}, {stage}",
            **({} if self.loss is None else {"loss": self.loss}),
        )


@dataclass(frozen=True)
class MethodResult:
    """What a method found.

    Attributes:
        subject: what was trained, in the state of its best step.
        outcome: of its (last) training.
        scores: that chose the mask, by parameter name, where there are any: an inversion needs them.
        details: a record of its own for the result, of the kind that the method names, e.g. its rounds.
        file: the network's file, where the method wrote one of its own into the folder of the run.

    """

    subject: Subject
    outcome: Outcome
    scores: Mapping[str, Tensor] | None = None
    details: object = None
    file: str | None = None


@dataclass(frozen=True)
class Method(Algorithm):
    """A method of the comparison that is not simply a search; its options are the fields of its dataclass.

    A new method is a file with such a class, and a line in `supermask.runs.methods`.
    """

    @abstractmethod
    def run(self, context: RunContext) -> MethodResult:
        """Find a network of the density that is asked for, and train it."""
