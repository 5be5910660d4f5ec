"""One file for the tickets of many tasks: what they share is written once, and every byte is checked when it is read.

It is a ticket's file whose masks and learned tensors have the number of their task before their name, "3/fc1.weight",
so that what codes and checks a single ticket codes and checks them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supermask.errors import SupermaskError, TicketError
from supermask.random.weights import describe_all, from_descriptions
from supermask.ticket import Ticket
from supermask.ticket.file import Contents, decode, encode

_TASKS = "tasks"


def written(tickets: Sequence[Ticket]) -> bytes:
    """Return the bytes of the file of some tickets over one random network.

    Raises:
        SupermaskError: there are none, or a provenance holds what is no plain value.

    """
    if not tickets:
        raise SupermaskError("There is no task to write; add a ticket first.")
    first = tickets[0]
    same = _same(tickets)
    header = {
        "seed": first.seed,
        **describe_all(first.weights),
        "constants": dict(first.constants),
        "bypassed": list(first.bypassed),
        "digest": first.digest,
        _TASKS: [dict(ticket.provenance) for ticket in tickets],
    }
    masks = {f"{task}/{name}": mask for task, ticket in enumerate(tickets) for name, mask in ticket.masks.items()}
    own = {
        f"{task}/{name}": tensor
        for task, ticket in enumerate(tickets)
        for name, tensor in ticket.learned.items()
        if name not in same
    }
    return encode(Contents(header, masks, {f"/{name}": tensor for name, tensor in same.items()} | own))


def read(path: str | Path) -> list[Ticket]:
    """Return the tickets of a file.

    Raises:
        TicketError: the file is missing, cut short, changed in any byte, or holds no tickets of tasks.

    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TicketError(f"Cannot read the tasks {path}: {error.strerror}.") from None
    try:
        return _tickets(decode(data))
    except SupermaskError as error:
        raise TicketError(f"{path} does not hold sound tasks: {error}") from None


def _tickets(contents: Contents) -> list[Ticket]:
    header = contents.header
    if _TASKS not in header:
        raise TicketError("it holds one ticket, not those of tasks; read it with Ticket.load.")
    try:
        weights, learned = from_descriptions(dict(header)), contents.learned
        return [
            Ticket(
                seed=header["seed"],
                weights=weights,
                masks=_of(contents.masks, f"{task}/"),
                digest=header["digest"],
                learned=_of(learned, "/") | _of(learned, f"{task}/"),
                constants=header["constants"],
                bypassed=tuple(header["bypassed"]),
                provenance=provenance,
            )
            for task, provenance in enumerate(header[_TASKS])
        ]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, SupermaskError):
            raise
        raise TicketError(f"its header does not describe tasks ({error!r}).") from None


def _same(tickets: Sequence[Ticket]) -> dict[str, Tensor]:
    """Return the learned tensors that are equal in all tickets, as those are that came with the model."""
    return {
        name: tensor
        for name, tensor in tickets[0].learned.items()
        if all(torch.equal(tensor, ticket.learned[name]) for ticket in tickets)
    }


def _of(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
