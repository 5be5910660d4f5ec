"""The tickets of a small transformer: of pretrained weights, strong ones, and both carried to another task of text."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from supermask.baselines.method import RunContext
from supermask.baselines.sparse import Sparse
from supermask.data import DataSet
from supermask.data.folder import data_folder as folder_of
from supermask.data.small import few
from supermask.data.source_text import read_source_text, source_versions
from supermask.data.text import ASCII, read_text
from supermask.files import make_folder
from supermask.judge.controls import CONTROLS
from supermask.judge.transfer import carried
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune
from supermask.results import Result
from supermask.runs import Job, SearchOptions, recorded
from supermask.runs.folder import STAGES
from supermask.runs.run_job import context_of
from supermask.search.edge_popup import EdgePopupRule
from supermask.ticket import Ticket
from supermask.training import Outcome, Recipe

DENSITIES, CONTEXT = (0.5, 0.3, 0.1), 64
SHAKESPEARE = "tinyshakespeare/input.txt"
HEAD = "head."
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Text:
    """A task on text.

    Attributes:
        model: of its network, in `supermask.models.TOKEN_MODELS`, but for its first word.
        data: name of its data set.
        read: returns its data set from the folder of data; None is where `supermask.data.load` looks.

    """

    model: str
    data: str
    read: Callable[[Path | None], DataSet]


def _characters(folder: Path | None) -> DataSet:
    # the characters of the other task, so that both have one table of embeddings
    return read_text(folder_of(folder) / SHAKESPEARE, name=f"text:{SHAKESPEARE}", context=CONTEXT, characters=ASCII)


TEXTS: Mapping[str, Text] = MappingProxyType(
    {
        "characters": Text("transformer", f"text:{SHAKESPEARE}", _characters),
        "kinds": Text("classifier", "source_text", lambda folder: read_source_text()),
    }
)
Way = Literal[
    "dense",
    "dense, not pretrained",
    "magnitude, one-shot",
    "magnitude, iterative",
    "shuffled in layers",
    "random",
    "reset",
    "reinitialised",
    "strong",
    "strong, narrow keys",
]
PARTS = MappingProxyType(
    {
        "queries and keys": (".query.", ".key."),
        "values and outputs": (".value.", ".output."),
        "MLP": (".hidden.",),
        "embeddings": ("tokens.", "places."),
    }
)
"""What the names of a part's matrices have in them."""


@dataclass(frozen=True)
class Lengths:
    """How long and how large everything is.

    Attributes:
        pretraining: optimizer steps of it.
        tuning: steps of every training that follows one.
        search: steps of a search for a strong ticket.
        test: windows that are tested, drawn once.
        width: of the network.

    """

    pretraining: int = 800
    tuning: int = 100
    search: int = 500
    test: int = 500
    width: float = 1.0


LENGTHS = Lengths()
TRAINED = Recipe(
    batch_size=16, optimizer="adam", learning_rate=3e-3, weight_decay=0.0, warm_up=0.1, best="loss", evaluate_every=0
)
PRETRAINED, SEARCHED = replace(TRAINED, learning_rate=0.01), replace(TRAINED, learning_rate=0.01)


@dataclass(frozen=True, kw_only=True)
class TextResult(Result):
    """One way to find a ticket, from both tasks to both.

    Attributes:
        accuracies: on the test windows after the last step, fractions, by the task of the ticket and the one that it is
            trained on.
        losses: the same, in nats.
        parts: densities of the masks, by the task of the ticket and part of the network; empty for dense networks.
        seconds: of all trainings that the way takes, but the pretraining.
        sources: versions of the packages whose source was read.

    """

    accuracies: Mapping[str, Mapping[str, float]]
    losses: Mapping[str, Mapping[str, float]]
    parts: Mapping[str, Mapping[str, float]]
    seconds: float
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Tickets:
    """The tickets of one way, density and seed, from both tasks to both.

    Attributes:
        way: how the masks are found, and over which weights they are trained.
        density: of the prunable weights; 1 for dense networks.
        seed: of the initial weights, the order of the examples and the controls.
        lengths: of the trainings.

    """

    kind: ClassVar[type[Result]] = TextResult

    way: Way
    density: float
    seed: int
    lengths: Lengths = LENGTHS

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the tickets depend on."""
        jobs = {name: _job(name, self).config() for name in TEXTS}
        own = {"way": self.way, "density": self.density, "ladder": DENSITIES, "lengths": asdict(self.lengths)}
        rates = {"pretraining": PRETRAINED.learning_rate, "head": SEARCHED.learning_rate}
        found: dict[str, Any] = json.loads(json.dumps({**own, **rates, "jobs": jobs}))
        return found

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> TextResult:
        """Find the tickets and train them; trainings that are finished, of other rows too, are not repeated."""

        def measure(_: Path) -> TextResult:
            work = _Work(self, make_folder(path.parent / STAGES), torch.device(device), data_folder)
            return work.strong() if self.way.startswith("strong") else work.weak()

        return recorded(TextResult, path, self.config(), measure, device=device, resume=True)


def _job(text: str, of: Tickets) -> Job:
    """Return the job of the network of a task."""
    strong, wide = of.way.startswith("strong"), of.way == "strong"
    recipe = SEARCHED if strong else TRAINED
    return Job(
        method="edge_popup" if strong else "dense",
        model=f"{'wide_key' if wide else 'text'}_{TEXTS[text].model}",
        data=TEXTS[text].data,
        validation=0,
        width=of.lengths.width,
        seed=of.seed,
        recipe=replace(recipe, iterations=of.lengths.search if strong else of.lengths.tuning),
        search=SearchOptions(density=of.density) if strong else SearchOptions(dense=(f"{HEAD}weight",)),
    )


@dataclass
class _Work:
    """The work on one row and seed: networks, trainings that are kept, and their seconds."""

    of: Tickets
    stages: Path
    device: torch.device
    data_folder: Path | None
    seconds: list[float] = field(default_factory=list)

    @cached_property
    def contexts(self) -> Mapping[str, RunContext]:
        """The networks and the data of both tasks."""
        return {text: self._context(text) for text in TEXTS}

    def weak(self) -> TextResult:
        """Prune pretrained weights, and train on both tasks."""
        way, found = self.of.way, {}
        masks = {source: self._masks(source) for source in TEXTS}
        for source in TEXTS:
            found[source] = {
                target: self._tuned(way, self.of.density, source, target, masks[source]) for target in TEXTS
            }
        return self._result(found, masks)

    def strong(self) -> TextResult:
        """Search for a ticket of each task, and train nothing but a head on the other one."""
        rule, tickets = EdgePopupRule(), {}
        found: dict[str, dict[str, Outcome]] = {source: {} for source in TEXTS}
        for source, here in self.contexts.items():
            search = here.search(rule)
            stage, recipe = f"search-{self.of.density:g}", rule.recipe(here.recipe)
            found[source][source] = self._kept(here.train(search, stage=stage, recipe=recipe))
            tickets[source] = search.ticket()
        for source, ticket in tickets.items():
            for target in (text for text in TEXTS if text != source):
                found[source][target] = self._headed(ticket, source, self.contexts[target])
        return self._result(found, {source: ticket.masks for source, ticket in tickets.items()})

    def _headed(self, ticket: Ticket, source: str, there: RunContext) -> Outcome:
        """Train the head alone, which is whole, behind a strong ticket of the other task."""
        fresh = there.search(EdgePopupRule()).ticket()
        masks = {name: torch.ones_like(m) if name.startswith(HEAD) else m for name, m in fresh.masks.items()}
        network = there.sparse(ticket=carried(ticket, replace(fresh, masks=masks)).ticket)
        for name, parameter in network.model.named_parameters():
            parameter.requires_grad_(name.startswith(HEAD))
        stage, recipe = f"head-{self.of.density:g}-from-{source}", replace(SEARCHED, iterations=self.of.lengths.tuning)
        return self._kept(there.train(network, stage=stage, recipe=recipe))

    def _masks(self, source: str) -> Tensors | None:
        """Return the masks of a task; None where the network is dense."""
        way, density = self.of.way, self.of.density
        if way.startswith("dense"):
            return None
        if way == "magnitude, iterative":
            return self._iterated(source)
        masks = self._largest(self._pretrained(source), density)
        controls = {"random": "random_uniform", "shuffled in layers": "shuffled_in_layers"}
        if way not in controls:
            return masks
        ticket = replace(self.contexts[source].whole, masks=masks)
        return CONTROLS[controls[way]](ticket, seed=self.of.seed).masks

    def _iterated(self, source: str) -> Tensors:
        """Return the masks after rounds that begin at the pretrained weights, one for each density of the ladder."""
        masks, before = None, 1.0
        for density in DENSITIES:
            outcome = self._tuned("magnitude, iterative", before, source, source, masks)
            masks, before = self._largest(outcome.last["model"], density, masks), density
            if density == self.of.density:
                return masks
        raise AssertionError(f"{self.of.density} is not on the ladder")

    def _largest(self, weights: Tensors, density: float, left: Tensors | None = None) -> dict[str, Tensor]:
        """Return the masks of the largest weights over the whole network but the head."""
        shapes = next(iter(self.contexts.values())).whole.masks
        scores = {name: weights[name].abs().cpu() for name in shapes}
        total = sum(mask.numel() for mask in shapes.values())
        return prune(scores, [Pool((*scores,), round(density * total))], left)

    def _pretrained(self, source: str) -> Tensors:
        """Return the weights of a network that was trained on a task."""
        here = self.contexts[source]
        recipe = replace(PRETRAINED, iterations=self.of.lengths.pretraining)
        weights: Tensors = here.train(here.sparse(), stage="pretraining", recipe=recipe).last["model"]
        return weights

    def _tuned(self, way: Way, density: float, source: str, target: str, masks: Tensors | None) -> Outcome:
        """Train on a task what was found on another, or on the same."""
        there, ticket = self.contexts[target], self.contexts[target].whole
        if masks is not None:
            ticket = carried(replace(self.contexts[source].whole, masks=masks), there.whole).ticket
        network = there.sparse(ticket=there.drawn_again(ticket) if way == "reinitialised" else ticket)
        if way not in ("dense, not pretrained", "reset", "reinitialised"):
            self._load(network, self._pretrained(source))
        label = "dense" if density == 1.0 and way != "dense, not pretrained" else f"{way} {density:g}"
        stage = label if way == "dense, not pretrained" else f"{label} from {source}"
        return self._kept(there.train(network, stage=stage.replace(",", "").replace(" ", "-")))

    def _load(self, network: Sparse, weights: Tensors) -> None:
        """Take up the weights of a trunk; a head of another size stays as it is."""
        there = network.model.state_dict()
        network.load_weights(
            {name: weights[name] if weights[name].shape == w.shape else w for name, w in there.items()}
        )

    def _kept(self, outcome: Outcome) -> Outcome:
        self.seconds.append(outcome.seconds)
        return outcome

    def _context(self, text: str) -> RunContext:
        data = TEXTS[text].read(self.data_folder)
        found = context_of(
            _job(text, self.of).settled(),
            few(data, train=len(data.train), test=self.of.lengths.test),
            self.stages,
            self.stages,
            device=self.device,
            checkpoint_seconds=600.0,
            progress=False,
            extended=False,
        )
        return replace(found, folder=None)

    def _result(self, found: Mapping[str, Mapping[str, Outcome]], masks: Mapping[str, Tensors | None]) -> TextResult:
        tests = {source: {target: each.test for target, each in row.items()} for source, row in found.items()}
        return TextResult(
            accuracies={
                source: {target: each.accuracy for target, each in row.items()} for source, row in tests.items()
            },
            losses={source: {target: each.loss for target, each in row.items()} for source, row in tests.items()},
            parts={source: _parts(each) for source, each in masks.items() if each is not None},
            seconds=round(sum(self.seconds), 1),
            sources=source_versions(),
        )


def _parts(masks: Tensors) -> dict[str, float]:
    """Return the density of each part of the network."""
    found = {}
    for part, patterns in PARTS.items():
        chosen = [mask for name, mask in masks.items() if any(pattern in name for pattern in patterns)]
        found[part] = sum(int(mask.sum()) for mask in chosen) / sum(mask.numel() for mask in chosen)
    return found
