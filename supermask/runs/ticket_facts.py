"""What a ticket is and where it comes from, as names and texts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supermask.runs.ticket_model import is_chain
from supermask.shown import shortened
from supermask.ticket import Ticket


def facts_of(ticket: Ticket, path: Path) -> dict[str, str]:
    """Return the facts about a ticket by their names.

    Args:
        ticket: as read.
        path: of its file.

    """
    stored = sum(tensor.numel() for tensor in ticket.learned.values())
    distributions = dict.fromkeys(weight.distribution.name for weight in ticket.weights.values())
    given = {"checkpoint": ticket.checkpoint.title} if ticket.checkpoint else {}
    return {
        "seed": str(ticket.seed),
        "weights": "given" if given else ", ".join(distributions),
        **given,
        "digest of the weights": ticket.digest if given else ticket.digest[:16] + "…",
        "bytes": f"{path.stat().st_size:,}",
        "stored tensors": f"{len(ticket.learned):,} ({stored:,} numbers)",
        **_origin(ticket.provenance),
    }


def _origin(made: Mapping[str, Any]) -> dict[str, str]:
    """Return what a ticket says of where it comes from."""
    keys = ["algorithm", "model", "data", "loss", "metrics", "versions"]
    shown, model = dict(made), made.get("model")
    if is_chain(model):
        keys[2:2] = ["target", "options", "widths", "certificate", "pixels"]
        shown["model"] = f"{len(model['modules'])} modules in a chain"
    return {key: text_of(shown[key]) for key in keys if key in shown}


def text_of(value: Any) -> str:
    """Return a plain value, nested or not, in words: a few lines at most."""
    return shortened(_text_of(value), _LONGEST)


_LONGEST = 2_000  # characters: recipes and certificates take a few hundred


def _text_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text_of(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text_of, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
