"""The network and the data set that a ticket names, built and read again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from supermask import data, models
from supermask.data import DataSet
from supermask.errors import SupermaskError, TicketError
from supermask.models.sequence import from_description
from supermask.ticket import Ticket


def built_from(ticket: Ticket, path: Path) -> nn.Module:
    """Return a freshly built model of the architecture that a ticket names.

    Args:
        ticket: as read.
        path: of its file, for the message.

    Raises:
        TicketError: it names none.

    """
    made = ticket.provenance.get("model")
    if isinstance(made, Mapping) and is_chain(made):
        return from_description(made["modules"])
    if not isinstance(made, Mapping) or not {"name", "input_shape", "classes", "width"} <= made.keys():
        raise TicketError(f"{path} does not say which model it was made from; load it in Python and apply it to yours.")
    name, shape = made["name"], tuple(made["input_shape"])
    given = None if models.TORCHVISION_PREFIX in name else shape
    return models.build(name, input_shape=given, classes=made["classes"], width=made["width"])


def network_of(ticket: Ticket, path: Path, given: Path | None) -> nn.Module:
    """Return a ticket's network, in a freshly built model of the architecture that it names.

    Args:
        ticket: as read.
        path: of its file, for the message.
        given: file of the checkpoint that a ticket over given weights is over.

    Raises:
        TicketError: the ticket names no architecture, or the checkpoint is missing or another one.

    """
    return ticket.apply(built_from(ticket, path), given=given)


def is_chain(model: Mapping[str, Any]) -> bool:
    """Whether a ticket describes the modules of its network one by one, as one that was built for a target does."""
    return isinstance(model.get("modules"), list)


def data_of(
    ticket: Ticket, path: Path, name: str | None, *, folder: Path | None, validation: int | None, seed: int
) -> DataSet:
    """Return a data set with the pixels as a ticket's network takes them.

    Args:
        ticket: as read.
        path: of its file, for the message.
        name: of the data set; None is the one that the ticket was found on.
        folder: of the data sets.
        validation: examples held out of the training set; None is the data set's usual number.
        seed: draws them.

    Raises:
        SupermaskError: neither the caller nor the ticket names a data set, or it cannot be read.

    """
    name = name or ticket.provenance.get("data")
    if not isinstance(name, str):
        raise SupermaskError(f"{path} does not say which data set it was found on; give --data, or data= in Python.")
    data_set = data.load(name, folder=folder, validation=validation, seed=seed)
    return data_set.raw() if ticket.provenance.get("pixels") == "raw" else data_set
