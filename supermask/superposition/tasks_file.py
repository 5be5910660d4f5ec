"""One file for the tickets of many tasks: what they share is written once, and every byte is checked when it is read.

It is a ticket's file whose masks and learned tensors have the number of their task before their name, "3/fc1.weight".
A learned tensor that is equal in all tasks, as those are that came with the model, is there once, as "/fc1.bias".
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from supermask.errors import SupermaskError, TicketError
from supermask.ticket import Ticket
from supermask.ticket import file as ticket_file
from supermask.ticket.file import Contents

_TASKS = "tasks"  # in the place of a ticket's provenance: that of each task
_ALL = ""  # in the place of a task's number


def encode(tickets: Sequence[Ticket]) -> bytes:
    """Return the bytes of the file of some tickets over one random network.

    Raises:
        SupermaskError: there are none, or a provenance holds what is not a plain value.

    """
    if not tickets:
        raise SupermaskError("There is no task to write; add a ticket first.")
    header = dict(tickets[0].contents().header)
    del header["provenance"]
    header[_TASKS] = [dict(ticket.provenance) for ticket in tickets]
    same = _same(tickets)
    masks, learned = dict[str, Tensor](), _numbered(_ALL, same)
    for task, ticket in enumerate(tickets):
        masks |= _numbered(task, ticket.masks)
        learned |= _numbered(task, {name: each for name, each in ticket.learned.items() if name not in same})
    return ticket_file.encode(Contents(header, masks, learned), _weight_of)


def decode(data: bytes, *, memory: int | None = None) -> list[Ticket]:
    """Return the tickets of a file.

    Args:
        data: its bytes.
        memory: bytes that reading them may take, as `Ticket.load` takes it.

    Raises:
        TicketError: the bytes are cut short, changed in any byte, not those of tickets of tasks, or would take more
            memory.

    """
    contents = ticket_file.decode(data, _weight_of, memory=memory)
    header = dict(contents.header)
    provenances = header.pop(_TASKS, None)
    if not isinstance(provenances, list):
        raise TicketError("it holds one ticket, not those of tasks; read it with Ticket.load.")
    same = _of(_ALL, contents.learned)
    return [
        Ticket.from_contents(
            Contents({**header, "provenance": each}, _of(task, contents.masks), same | _of(task, contents.learned))
        )
        for task, each in enumerate(provenances)
    ]


def _weight_of(mask: str) -> str:
    return mask.partition("/")[2]


def _same(tickets: Sequence[Ticket]) -> dict[str, Tensor]:
    """Return the learned tensors that are equal in all tickets."""
    return {
        name: tensor
        for name, tensor in tickets[0].learned.items()
        if all(torch.equal(tensor, ticket.learned[name]) for ticket in tickets)
    }


T = TypeVar("T")


def _numbered(task: int | str, parts: Mapping[str, T]) -> dict[str, T]:
    return {f"{task}/{name}": part for name, part in parts.items()}


def _of(task: int | str, parts: Mapping[str, T]) -> dict[str, T]:
    """Return the parts of a task, by their names alone."""
    prefix = f"{task}/"
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
