"""`supermask evaluate` and `supermask inspect`: what a ticket file is worth, and what it holds."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
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
from supermask.training.batches import on_device
from supermask.training.evaluation import evaluate, outputs, scored
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
            result: dict[str, Any] = {"ticket": self.ticket.name, "data": name, "part": self.part}
            if loss is None and examples.labels.ndim == 1:
                found = list(outputs(network, batches))
                score, classes = scored(found), per_class(found, data_set.classes)
                result |= {**asdict(score), "accuracy": score.accuracy, "per_class": classes}
                if len(classes) > MANY:
                    result["top_5"] = top_5(found)
                bars = {str(label): 100 * accuracy for label, accuracy in enumerate(classes)}
                plot_bars(bars, out / "classes.png", f"{self.ticket.name} on {name}", "class", "accuracy (%)")
                written = "evaluation.json, classes.png"
            else:
                score = evaluate(network, batches, loss=loss)
                result |= {**asdict(score), **({} if score.correct is None else {"accuracy": score.accuracy})}
                written = "evaluation.json"
            proved = self.part == "training" and loss is None and is_provable(ticket, data_set)
            proof = proof_by(ticket, score, data_set) if proved else None
            write_json(out / "evaluation.json", {**result, **({} if proof is None else {"proof": asdict(proof)})})
            rows = [
                *score_rows(Scored.of(score), name),
                *([["accuracy, top 5", f"{result['top_5']:.2%}"]] if "top_5" in result else []),
                *([] if by_loss(name, [Scored.of(score)]) else [["loss", f"{score.loss:.4f}"]]),
                ["weights kept", f"{ticket.kept:,} of {ticket.prunable:,} ({ticket.density:.2%})"],
            ]
            print(table([f"{self.ticket.name} on {name}", self.part], rows))
            if proof is not None:
                print(f"\n{proof.text()}\n")
            if ticket.provenance.get("trained"):
                print(
                    "The ticket is a weak one: these are its weights before training; network.safetensors has the"
                    " trained."
                )
            print(f"In {relative(out)}: {written}")

    def _examples(self, data_set: DataSet) -> Examples:
        if self.part == "test":
            return data_set.test()
        return data_set.validation if self.part == "validation" else training_examples(data_set)


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
                counts = {name: {"kept": kept, "prunable": count} for name, (kept, count) in layers.items()}
                sized = {"where the bytes are": bytes_values(found)}
                made = {"provenance": dict(ticket.provenance)}
                write_json(out / "inspection.json", {"layers": counts, **sized, **facts, **made})
                bars = {name: 100 * kept / max(1, count) for name, (kept, count) in layers.items()}
                plot_bars(bars, out / "layers.png", self.ticket.name, "parameter", "density (%)")
                print(f"In {relative(out)}: inspection.json, layers.png")

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
