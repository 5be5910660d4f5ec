"""`supermask evaluate` and `supermask inspect`: what a ticket file is worth, and what it holds."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from tyro.conf import Positional

from supermask.cli.options import Common, LossName, TicketData, TicketModel
from supermask.data import DataSet, Examples
from supermask.deploy import sparse
from supermask.errors import SupermaskError
from supermask.files import held, make_folder, relative, write_json
from supermask.judge import generalization_bound
from supermask.report import plot_bars, table
from supermask.runs.fit import example_of
from supermask.runs.folder import RunFolder
from supermask.runs.measures import by_loss, score_rows
from supermask.runs.proof import Proof, bound_text, is_provable, proof_by, training_examples
from supermask.runs.result import JobResult
from supermask.runs.ticket_bytes import bytes_table, bytes_values
from supermask.runs.ticket_facts import facts_of
from supermask.runs.ticket_model import check_takes, data_of, loss_of, network_of
from supermask.runs.ticket_scores import batches_for, per_class, top_5
from supermask.ticket import Ticket
from supermask.ticket.file import sizes
from supermask.training.batches import Prepared, on_device
from supermask.training.evaluation import Score, evaluate, outputs, scored
from supermask.training.objective import Loss
from supermask.training.result import Scored

MANY = 10
"""Classes above which the accuracy within the five likeliest is shown too, as papers on larger data do."""


@dataclass(frozen=True)
class Evaluate(Common):
    """Measure the accuracy of a ticket file on a data set."""

    ticket: Positional[Path] = Path("network.ticket")
    """The ticket file."""

    data: TicketData = None

    model: TicketModel = None

    loss: LossName = None

    part: Literal["test", "validation", "training"] = "test"
    """Which part of it; the validation part is drawn by --seed. Training is all that is not of the test part: what it
    proves of the error on examples to come is printed too."""

    given: Path | None = None
    """Checkpoint of a ticket over given weights: a file of safetensors or of torch.save."""

    out: Path | None = None
    """Folder for evaluation.json and classes.png; by default the ticket's own folder."""

    def __call__(self) -> None:
        """Evaluate the ticket."""
        device = torch.device(self.prepare())
        ticket = Ticket.load(self.ticket)
        data_set = data_of(ticket, self.ticket, self.data, folder=self.data_folder, validation=None, seed=self.seed)
        name = data_set.name
        loss = loss_of(ticket, self.ticket, self.loss, data_set)
        network = network_of(ticket, self.ticket, self.given, self.model).to(device).eval()
        check_takes(ticket, self.ticket, network, example_of(data_set).inputs.to(device), data_set, loss)
        examples = on_device(self._examples(data_set), device)
        batches = batches_for(network, data_set, examples)
        if device.type == "cpu":
            network = sparse(network, batch=batches.batch, copy=False).network
        out = make_folder(self.out or self.ticket.parent)
        with held(out):
            measured = _measured(network, batches, loss, data_set)
            proved = self.part == "training" and loss is None and is_provable(ticket, data_set)
            proof = proof_by(ticket, measured.score, data_set) if proved else None
            written = self._write(out, name, measured, proof)
            print(table([f"{self.ticket.name} on {name}", self.part], [*measured.rows(name), _kept_row(ticket)]))
            if proof is not None:
                print(f"\n{proof.text()}\n")
            if ticket.provenance.get("trained"):
                print(
                    "The ticket is a weak one: these are its weights before training; network.safetensors has the"
                    " trained."
                )
            print(f"In {relative(out)}: {', '.join(written)}")

    def _write(self, out: Path, data: str, measured: "_Measured", proof: Proof | None) -> list[str]:
        """Write the plot of the classes, where there are any, and evaluation.json; return their names."""
        written = ["evaluation.json"]
        if measured.classes:
            bars = {str(label): 100 * accuracy for label, accuracy in enumerate(measured.classes)}
            plot_bars(bars, out / "classes.png", f"{self.ticket.name} on {data}", "class", "accuracy (%)")
            written.append("classes.png")
        about = {"ticket": self.ticket.name, "data": data, "part": self.part}
        proved = {} if proof is None else {"proof": asdict(proof)}
        write_json(out / "evaluation.json", {**about, **measured.values(), **proved})
        return written

    def _examples(self, data_set: DataSet) -> Examples:
        if self.part == "test":
            return data_set.test()
        return data_set.validation if self.part == "validation" else training_examples(data_set)


@dataclass(frozen=True)
class _Measured:
    """What a network is worth on the examples of a part.

    Attributes:
        score: its correct answers and its loss.
        classes: accuracy within each class; empty where examples have more than one label, or none.
        top_5: accuracy within the five likeliest, of more than `MANY` classes.

    """

    score: Score
    classes: list[float] = field(default_factory=list)
    top_5: float | None = None

    def values(self) -> dict[str, Any]:
        """Return them as plain values."""
        accuracy = {} if self.score.correct is None else {"accuracy": self.score.accuracy}
        classes = {"per_class": self.classes} if self.classes else {}
        return {**asdict(self.score), **accuracy, **classes, **({} if self.top_5 is None else {"top_5": self.top_5})}

    def rows(self, data: str) -> list[list[str]]:
        """Return them as rows of a table."""
        scored = Scored.of(self.score)
        likeliest = [] if self.top_5 is None else [["accuracy, top 5", f"{self.top_5:.2%}"]]
        loss = [] if by_loss(data, [scored]) else [["loss", f"{self.score.loss:.4f}"]]
        return [*score_rows(scored, data), *likeliest, *loss]


def _measured(network: nn.Module, batches: Prepared, loss: Loss | None, data_set: DataSet) -> _Measured:
    if loss is not None or batches.examples.labels.ndim != 1:
        return _Measured(evaluate(network, batches, loss=loss))
    found = list(outputs(network, batches))
    classes = per_class(found, data_set.classes)
    return _Measured(scored(found), classes, top_5(found) if len(classes) > MANY else None)


def _kept_row(ticket: Ticket) -> list[str]:
    return ["weights kept", f"{ticket.kept:,} of {ticket.prunable:,} ({ticket.density:.2%})"]


@dataclass(frozen=True)
class Inspect:
    """Show what a ticket file holds."""

    ticket: Positional[Path] = Path("network.ticket")
    """The ticket file."""

    given: Path | None = None
    """Checkpoint of a ticket over given weights, to be compared with what the ticket says of it."""

    model: TicketModel = None

    train_error: float | None = None
    """Share of training examples that its network gets wrong, for a bound of its error on examples to come; by default
    what the result of its run, beside it, says."""

    examples: int | None = None
    """How many training examples that is the share of."""

    out: Path | None = None
    """Folder for inspection.json and layers.png; by default nothing is written."""

    def __call__(self) -> None:
        """Inspect the ticket."""
        if self.model is not None and self.given is None:
            raise SupermaskError("--model is of the checkpoint that --given names; give both, or none.")
        ticket = Ticket.load(self.ticket)
        layers = {name: (int(mask.sum()), mask.numel()) for name, mask in ticket.masks.items()}
        rows = [
            [name, "x".join(map(str, ticket.masks[name].shape)), f"{kept:,}", f"{count:,}", _share(kept, count)]
            for name, (kept, count) in layers.items()
        ]
        rows.append(["all", "", f"{ticket.kept:,}", f"{ticket.prunable:,}", _share(ticket.kept, ticket.prunable)])
        print(table(["parameter", "shape", "kept", "of", "density"], rows), end="\n\n")
        found, facts = sizes(self.ticket.read_bytes()), facts_of(ticket, self.ticket)
        print(bytes_table(found), end="\n\n")
        print(table(["ticket", str(self.ticket.name)], [[key, value] for key, value in facts.items()]))
        if proof := self._proof(ticket):
            print(f"\n{proof}\n")
        if self.given is not None:
            network_of(ticket, self.ticket, self.given, self.model)
            print(f"{self.given} is the checkpoint that the ticket is over.")
        if self.out is not None:
            out = make_folder(self.out)
            with held(out):
                self._write(out, layers, {"where the bytes are": bytes_values(found), **facts}, ticket)
            print(f"In {relative(out)}: inspection.json, layers.png")

    def _write(self, out: Path, layers: dict[str, tuple[int, int]], facts: dict[str, Any], ticket: Ticket) -> None:
        counts = {name: {"kept": kept, "prunable": count} for name, (kept, count) in layers.items()}
        write_json(out / "inspection.json", {"layers": counts, **facts, "provenance": dict(ticket.provenance)})
        bars = {name: 100 * kept / max(1, count) for name, (kept, count) in layers.items()}
        plot_bars(bars, out / "layers.png", self.ticket.name, "parameter", "density (%)")

    def _proof(self, ticket: Ticket) -> str:
        """Return what is proved of the error on examples to come, empty where no training error is known."""
        if (self.train_error is None) != (self.examples is None):
            raise SupermaskError("--train-error and --examples belong together; give both, or none.")
        if self.train_error is not None and self.examples is not None:
            return bound_text(generalization_bound(ticket, train_error=self.train_error, examples=self.examples))
        proof = _proof_beside(self.ticket)
        return "" if proof is None else proof.text()


def _proof_beside(path: Path) -> Proof | None:
    """Return the proof in the result of the run that wrote a ticket, None where there is no such result."""
    folder = RunFolder(path.parent)
    try:
        result = JobResult.from_json(folder.read_result()) if folder.finished else None
    except (SupermaskError, LookupError, TypeError, ValueError, AttributeError):  # of another kind of run
        return None
    written = None if result is None else (result.file, result.bytes)
    return None if result is None or written != (path.name, path.stat().st_size) else result.proof


def _share(kept: int, count: int) -> str:
    return f"{kept / max(1, count):.2%}"
