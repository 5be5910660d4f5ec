"""What a ticket is: where it comes from, its random weights, what it keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from supermask.report.page import Fact, Section, Table
from supermask.runs.diagnostics.context import Context
from supermask.runs.diagnostics.diagnostic import Diagnosed, Diagnostic, Size
from supermask.runs.ticket_facts import facts_of, text_of


@dataclass(frozen=True, kw_only=True)
class IdentityResult(Diagnosed):
    """What a ticket is.

    Attributes:
        facts: names and texts.
        strong: whether its claim is about its network untrained.
        kept: weights that the masks keep.
        prunable: weights that they could keep.
        algorithm: that found it; "unknown" where the file does not say.
        model: in words.

    """

    facts: Mapping[str, str]
    strong: bool
    kept: int
    prunable: int
    algorithm: str
    model: str


class Identity(Diagnostic[IdentityResult]):
    """What a ticket is and where it comes from."""

    name: ClassVar[str] = "identity"
    title: ClassVar[str] = "What it is"
    kind = IdentityResult

    def sizes(self, context: Context) -> Sequence[Size]:
        """Return its one size: the file was read already."""
        return (Size(0.1),)

    def measure(self, context: Context, size: Size, folder: Path, left: Callable[[], float]) -> IdentityResult:
        """Read what the file says."""
        ticket, made = context.ticket, context.ticket.provenance
        model = made.get("model")
        return IdentityResult(
            facts={**facts_of(ticket, context.filed.path), **_more(context)},
            strong=context.strong,
            kept=ticket.kept,
            prunable=ticket.prunable,
            algorithm=text_of(made.get("algorithm", "unknown")),
            model=_model(model) if isinstance(model, Mapping) else "unknown model",
        )

    def section(self, context: Context, result: IdentityResult) -> Section:
        """Return what is known as a table."""
        kind = (
            "It is a strong ticket: its claim is about the network as it is, with no weight trained."
            if result.strong
            else "It is a weak ticket: its claim is about the network after its kept weights were trained."
        )
        return Section(
            self.title,
            f"A ticket is a seed, which regrows the random weights, and a mask, which says which of them stay. {kind}",
            table=Table(["fact", "value"], [[name, text] for name, text in result.facts.items()], "prose"),
            command=context.inspect,
        )

    def facts(self, result: IdentityResult) -> Sequence[Fact]:
        """Return what it is in two lines."""
        strong = "strong" if result.strong else "weak"
        density = result.kept / max(1, result.prunable)
        return (
            Fact("Ticket", f"{strong}, found by {result.algorithm} in {result.model}"),
            Fact("Density", f"{100 * density:.2f} %: {result.kept:,} of {result.prunable:,} prunable weights kept"),
        )


def _more(context: Context) -> dict[str, str]:
    """Return facts besides those that `supermask inspect` shows."""
    ticket, made = context.ticket, context.ticket.provenance
    described = dict.fromkeys(text_of(weight.distribution.describe()) for weight in ticket.weights.values())
    more = {
        "SHA-256 of the file": context.digests["ticket"],
        "distribution of the weights": "; ".join(described),
        "density": f"{100 * ticket.density:.2f} % ({ticket.kept:,} of {ticket.prunable:,} prunable weights kept)",
        "layers with a mask": f"{len(ticket.masks):,}",
    }
    named = ("options", "steps", "recipe")
    return more | {name: text_of(_filled(made[name])) for name in named if name in made}


def _filled(value: Any) -> Any:
    """Return nested values without what is empty, which says nothing in words."""
    if not isinstance(value, Mapping):
        return value
    return {key: _filled(part) for key, part in value.items() if part not in (None, {}, [], "")}


def _model(made: Mapping[str, Any]) -> str:
    if isinstance(made.get("modules"), list):
        return f"a chain of {len(made['modules'])} modules"
    width = made.get("width", 1.0)
    return text_of(made.get("name", "unknown model")) + ("" if width == 1 else f", width {text_of(width)}")
