"""`supermask evaluate` and `supermask inspect`: what a ticket file is worth, and what it holds."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tyro.conf import Positional

from supermask.cli.options import Common
from supermask.cli.ticket_bytes import bytes_table, bytes_values
from supermask.data import DataSet, Examples
from supermask.files import make_folder, relative, write_json
from supermask.graph import largest_activation
from supermask.report import plot_bars, table
from supermask.runs.ticket_model import built_from, data_of, is_chain
from supermask.ticket import Ticket
from supermask.ticket.file import sizes
from supermask.training import Recipe
from supermask.training.batches import EVALUATION_BATCH, Prepared, on_device
from supermask.training.evaluation import outputs, scored

LARGEST = 24 << 20
"""Bytes of the largest activation of a batch on a CPU.

glibc asks the system for each block above 32 MiB again, and every page of such a block faults on its first use.
"""


@dataclass(frozen=True)
class Evaluate(Common):
    """Measure the accuracy of a ticket file on a data set."""

    ticket: Positional[Path] = Path("network.ticket")
    """The ticket file."""

    data: str | None = None
    """Data set; by default the one that the ticket was found on."""

    part: Literal["test", "validation"] = "test"
    """Which part of it; the validation part is drawn by --seed."""

    out: Path | None = None
    """Folder for evaluation.json and classes.png; by default the ticket's own folder."""

    def __call__(self) -> None:
        """Evaluate the ticket."""
        device = torch.device(self.prepare())
        ticket = Ticket.load(self.ticket)
        data_set = data_of(ticket, self.ticket, self.data, folder=self.data_folder, validation=None, seed=self.seed)
        name = data_set.name
        network = ticket.apply(built_from(ticket, self.ticket)).to(device)
        examples = on_device(data_set.test() if self.part == "test" else data_set.validation, device)
        found = list(outputs(network, batches_for(network, data_set, examples)))
        score, classes = scored(found), per_class(found, data_set.classes)
        out = make_folder(self.out or self.ticket.parent)
        result = {"ticket": self.ticket.name, "data": name, "part": self.part, **asdict(score)}
        write_json(out / "evaluation.json", {**result, "accuracy": score.accuracy, "per_class": classes})
        bars = {str(label): 100 * accuracy for label, accuracy in enumerate(classes)}
        plot_bars(bars, out / "classes.png", f"{self.ticket.name} on {name}", "class", "accuracy (%)")
        rows = [
            ["accuracy", f"{score.accuracy:.2%} ({score.correct:,} of {score.total:,})"],
            ["loss", f"{score.loss:.4f}"],
            ["weights kept", f"{ticket.kept:,} of {ticket.prunable:,} ({ticket.density:.2%})"],
        ]
        print(table([f"{self.ticket.name} on {name}", self.part], rows))
        if ticket.provenance.get("trained"):
            print(
                "The ticket is a weak one: these are its weights before training; network.safetensors has the trained."
            )
        print(f"In {relative(out)}: evaluation.json, classes.png")


@dataclass(frozen=True)
class Inspect:
    """Show what a ticket file holds."""

    ticket: Positional[Path] = Path("network.ticket")
    """The ticket file."""

    out: Path | None = None
    """Folder for inspection.json and layers.png; by default nothing is written."""

    def __call__(self) -> None:
        """Inspect the ticket."""
        ticket = Ticket.load(self.ticket)
        layers = {name: (int(mask.sum()), mask.numel()) for name, mask in ticket.masks.items()}
        rows = [
            [name, "x".join(map(str, ticket.masks[name].shape)), f"{kept:,}", f"{count:,}", _share(kept, count)]
            for name, (kept, count) in layers.items()
        ]
        rows.append(["all", "", f"{ticket.kept:,}", f"{ticket.prunable:,}", _share(ticket.kept, ticket.prunable)])
        print(table(["parameter", "shape", "kept", "of", "density"], rows), end="\n\n")
        found = sizes(self.ticket.read_bytes())
        print(bytes_table(found), end="\n\n")
        print(table(["ticket", str(self.ticket.name)], self._facts(ticket)))
        if self.out is not None:
            out = make_folder(self.out)
            counts = {name: {"kept": kept, "prunable": count} for name, (kept, count) in layers.items()}
            facts = {key: value for key, value in self._facts(ticket)}
            sized = {"where the bytes are": bytes_values(found)}
            made = {"provenance": dict(ticket.provenance)}
            write_json(out / "inspection.json", {"layers": counts, **sized, **facts, **made})
            bars = {name: 100 * kept / max(1, count) for name, (kept, count) in layers.items()}
            plot_bars(bars, out / "layers.png", self.ticket.name, "parameter", "density (%)")
            print(f"In {relative(out)}: inspection.json, layers.png")

    def _facts(self, ticket: Ticket) -> list[list[str]]:
        made = ticket.provenance
        stored = sum(tensor.numel() for tensor in ticket.learned.values())
        distributions = dict.fromkeys(weight.distribution.name for weight in ticket.weights.values())
        facts = {
            "seed": str(ticket.seed),
            "weights": ", ".join(distributions),
            "digest of the weights": ticket.digest[:16] + "…",
            "bytes": f"{self.ticket.stat().st_size:,}",
            "stored tensors": f"{len(ticket.learned):,} ({stored:,} numbers)",
            **_origin(made),
        }
        return [[key, value] for key, value in facts.items()]


def batches_for(network: nn.Module, data_set: DataSet, examples: Examples) -> Prepared:
    """Return the examples in the batches that training evaluates, on a CPU in smaller ones for large activations."""
    batches = Prepared(data_set, examples, Recipe())
    if examples.labels.device.type != "cpu" or not len(examples):
        return batches
    one = largest_activation(network, next(iter(replace(batches, batch=1)))[0])
    return replace(batches, batch=min(EVALUATION_BATCH, max(1, LARGEST // max(1, one))))


def per_class(found: Iterable[tuple[Tensor, Tensor]], classes: int) -> list[float]:
    """Return the accuracy within each class, of logits (batch, classes) and labels; 0 for a class without examples."""
    correct, total = torch.zeros(classes), torch.zeros(classes)
    for logits, labels in found:
        right = (logits.argmax(1) == labels).cpu()
        total += torch.bincount(labels.cpu(), minlength=classes)
        correct += torch.bincount(labels.cpu()[right], minlength=classes)
    return [float(share) for share in correct / total.clamp(min=1)]


def _origin(made: Mapping[str, Any]) -> dict[str, str]:
    """Return what a ticket says of where it comes from."""
    keys = ["algorithm", "model", "data", "metrics", "versions"]
    shown, model = dict(made), made.get("model")
    if isinstance(model, Mapping) and is_chain(model):
        keys[2:2] = ["target", "options", "widths", "certificate", "pixels"]
        shown["model"] = f"{len(model['modules'])} modules in a chain"
    return {key: _text(shown[key]) for key in keys if key in shown}


def _share(kept: int, count: int) -> str:
    return f"{kept / max(1, count):.2%}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
