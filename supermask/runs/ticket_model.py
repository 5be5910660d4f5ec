"""The network and the data set that a ticket names, built and read again.

A ticket's file may say anything of where it comes from. What it says is read here as what it should be, and a network
is first built without memory and held against the ticket's tensors: no size is believed that they do not have too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from supermask import data, models
from supermask.data import DataSet
from supermask.errors import SupermaskError, TicketError, first_line
from supermask.graph import largest_activation
from supermask.models import InputShape
from supermask.models.sequence import from_description
from supermask.models.shape import check_classes, check_input_shape, check_width
from supermask.shown import quoted
from supermask.ticket import Ticket

LARGEST_INPUT = 1 << 26
"""Numbers of one input: an image of 4,000 x 4,000 pixels in four channels."""
LARGEST_OUTPUT = 1 << 31
"""Bytes of one layer's output for one input."""
LONGEST_CHAIN = 10_000
"""Modules of a network that is described one by one."""


class Described(NamedTuple):
    """A network as a ticket names it.

    Attributes:
        name: as `supermask.models.build` takes it.
        input_shape: channels, height and width of its images.
        classes: number of its outputs.
        width: factor on its hidden widths.

    """

    name: str
    input_shape: InputShape
    classes: int
    width: float

    def build(self, width: float | None = None) -> nn.Module:
        """Return it freshly built, in its own width or another."""
        shape = None if models.TORCHVISION_PREFIX in self.name else self.input_shape
        own = self.width if width is None else width
        return models.build(self.name, input_shape=shape, classes=self.classes, width=own)


def described(ticket: Ticket) -> Described | None:
    """Return the network that a ticket names, None if it names none.

    Raises:
        TicketError: what it says is not the name of a network with its sizes.

    """
    made = ticket.provenance.get("model")
    if not isinstance(made, Mapping) or not set(Described._fields) <= made.keys():
        return None
    name, shape = made["name"], made["input_shape"]
    try:
        if not isinstance(name, str):
            raise SupermaskError(f"its name is {quoted(name)}, not a text.")
        check_input_shape(shape)
        check_classes(made["classes"])
        check_width(made["width"])
        check_input(shape)
    except SupermaskError as error:
        raise TicketError(f"The ticket names no network that can be built: {error}") from None
    return Described(name, tuple(shape), made["classes"], made["width"])


def built_from(ticket: Ticket, path: Path) -> nn.Module:
    """Return a freshly built model of the architecture that a ticket names.

    Args:
        ticket: as read.
        path: of its file, for the message.

    Raises:
        TicketError: it names none, or one of other tensors than its own.

    """
    build = _builder(ticket, path)
    ticket.check_fits(_without_memory(build, path))
    return build()


@torch.no_grad()
def check_takes(ticket: Ticket, path: Path, network: nn.Module, example: Tensor, data_set: DataSet) -> None:
    """Refuse data that a ticket's network does not take, before memory is taken for what it makes of them.

    Args:
        ticket: as read; it names its network.
        path: of its file, for the message.
        network: of the ticket, in evaluation mode.
        example: two inputs, float32 (2, ...), on the network's device.
        data_set: that they are of.

    Raises:
        TicketError: the network fails, returns other numbers than the classes of the data set, or makes too much of an
            input.

    """
    check_size(ticket, path, example)
    try:
        outputs = network(example)
    except RuntimeError as error:
        raise TicketError(
            f"The network of {path} does not take the images of {data_set.name} ({first_line(error)}); give the data"
            " set that it was made for."
        ) from None
    if tuple(outputs.shape) != (2, data_set.classes):
        raise TicketError(
            f"The network of {path} returns {tuple(outputs.shape[1:])} numbers for an image; {data_set.name} has"
            f" {data_set.classes} classes."
        )


def check_size(ticket: Ticket, path: Path, example: Tensor) -> None:
    """Refuse a network that makes too much of an input; it is run without memory, on shapes alone.

    Args:
        ticket: as read; it names its network.
        path: of its file, for the message.
        example: two inputs, float32 (2, ...).

    Raises:
        TicketError: it does.

    """
    made, meta = 0, _without_memory(_builder(ticket, path), path)
    with suppress(Exception):  # what does not run here fails once more, with its own message, where it is to be used
        made = largest_activation(meta, example.to("meta"))
    if made > LARGEST_OUTPUT:
        raise TicketError(f"The network of {path} makes {made / 1e9:,.1f} GB of one input, which is too much to run.")


def input_shape_of(ticket: Ticket) -> tuple[int, ...] | None:
    """Return the sizes of one input of a ticket's network; None where the ticket does not say.

    Raises:
        TicketError: what it says are no sizes.

    """
    made = ticket.provenance.get("model")
    shape = made.get("input_shape") if isinstance(made, Mapping) else None
    if shape is None:
        return None
    sizes = shape if isinstance(shape, list) and 0 < len(shape) < 8 else [None]
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise TicketError(f"The ticket gives its inputs as {quoted(shape)}, which are no sizes; give --input-shape.")
    return tuple(shape)


def check_input(shape: Sequence[int]) -> None:
    """Refuse inputs that are too large to be made.

    Raises:
        SupermaskError: one has more than `LARGEST_INPUT` numbers.

    """
    if math.prod(shape) > LARGEST_INPUT:
        raise SupermaskError(f"an input of {quoted(list(shape))} has more than {LARGEST_INPUT:,} numbers.")


def _builder(ticket: Ticket, path: Path) -> Callable[[], nn.Module]:
    made = ticket.provenance.get("model")
    if isinstance(made, Mapping) and is_chain(made):
        modules = made["modules"]
        if len(modules) > LONGEST_CHAIN:
            most = f"at most {LONGEST_CHAIN:,} are built"
            raise TicketError(f"{path} lists {len(modules):,} modules of its network; {most}.")
        return lambda: from_description(modules)
    found = described(ticket)
    if found is None:
        raise TicketError(f"{path} does not say which model it was made from; load it in Python and apply it to yours.")
    return found.build


def _without_memory(build: Callable[[], nn.Module], path: Path) -> nn.Module:
    """Return a network on the meta device, where a tensor is its shape alone."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return build()
    except SupermaskError:
        raise
    # what torch's modules raise of sizes that no tensor can have
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise TicketError(f"{path} describes a network that cannot be built ({first_line(error)}).") from None


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
