"""The network and the data set that a ticket names, built and read again.

A ticket's file may say anything of where it comes from. What it says is read here as what it should be, and a network
is first built without memory and held against the ticket's tensors: no size is believed that they do not have too.
Code is imported, and files are opened, only if the user names them as the ticket does: `model` and the like below are
what the user named.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from supermask import data, models
from supermask.data import DataSet
from supermask.data.batch import Batch
from supermask.data.own import is_own
from supermask.errors import SupermaskError, TicketError, first_line
from supermask.graph import largest_activation
from supermask.models import InputShape
from supermask.models.sequence import from_description
from supermask.models.shape import check_classes, check_sizes, check_width
from supermask.runs.fit import described_inputs, misfit
from supermask.shown import quoted
from supermask.ticket import Ticket
from supermask.training.losses import LOSSES, named_loss
from supermask.training.objective import Loss

LARGEST_INPUT = 1 << 26
"""Numbers of one input: an image of 4,000 x 4,000 pixels in four channels."""
LARGEST_OUTPUT = 1 << 31
"""Bytes of one layer's output for one input."""
LONGEST_CHAIN = 10_000
"""Modules of a network that is described one by one."""


class Described(NamedTuple):
    """A network as a ticket names it.

    Attributes:
        name: as `supermask.models.make` takes it.
        input_shape: of one input, e.g. channels, height and width of images.
        classes: number of its outputs.
        width: factor on its hidden widths.
        vocabulary: how many tokens there are; None where inputs are not tokens.

    """

    name: str
    input_shape: InputShape
    classes: int
    width: float
    vocabulary: int | None = None

    def build(self, width: float | None = None) -> nn.Module:
        """Return it freshly built, in its own width or another; code of the caller's own is imported."""
        return models.make(**{**self._asdict(), "width": self.width if width is None else width})


def described(ticket: Ticket) -> Described | None:
    """Return the network that a ticket names, None if it names none.

    Raises:
        TicketError: what it says is not the name of a network with its sizes.

    """
    made = ticket.provenance.get("model")
    if not isinstance(made, Mapping) or not {"name", "input_shape", "classes", "width"} <= made.keys():
        return None
    name, shape, vocabulary = made["name"], made["input_shape"], made.get("vocabulary")
    try:
        if not isinstance(name, str):
            raise SupermaskError(f"its name is {quoted(name)}, not a text.")
        check_sizes(shape)
        check_classes(made["classes"])
        if vocabulary is not None:
            check_classes(vocabulary, "vocabulary")
        check_width(made["width"])
        check_input(shape)
    except SupermaskError as error:
        raise TicketError(f"The ticket names no network that can be built: {error}") from None
    return Described(name, tuple(shape), made["classes"], made["width"], vocabulary)


def built_from(ticket: Ticket, path: Path, model: str | None = None) -> nn.Module:
    """Return a freshly built model of the architecture that a ticket names.

    Args:
        ticket: as read.
        path: of its file, for the message.
        model: that the user named, without which no code is imported.

    Raises:
        TicketError: it names none, or code that the user did not name, or a model of other tensors than its own.

    """
    build = _builder(ticket, path, model)
    if not _is_of_code(ticket):  # the caller's own code may look at its tensors, and is believed
        ticket.check_fits(_without_memory(build, path))
        return build()
    network = build()
    ticket.check_fits(network)
    return network


@torch.no_grad()
def check_takes(
    ticket: Ticket, path: Path, network: nn.Module, example: Tensor, data_set: DataSet, loss: Loss | None = None
) -> None:
    """Refuse data that a ticket's network does not take, before memory is taken for what it makes of them.

    Args:
        ticket: as read; it names its network.
        path: of its file, for the message.
        network: of the ticket, in evaluation mode.
        example: two inputs, (2, ...), on the network's device.
        data_set: that they are the first of.
        loss: of its outputs; None is their own, or the cross entropy.

    Raises:
        TicketError: the network fails, returns other numbers than the classes of the data set, or makes too much of an
            input.

    """
    check_size(ticket, path, example)
    # an index that an embedding does not have, another shape, and what code of the caller's own raises
    fails = Exception if _is_of_code(ticket) else (RuntimeError, IndexError, SupermaskError)
    try:
        outputs = network(example)
    except fails as error:
        raise TicketError(
            f"The network of {path} does not take the {described_inputs(data_set)} of {data_set.name}"
            f" ({first_line(error)}); give the data set that it was made for."
        ) from None
    batch = Batch(example, data_set.train.labels[:2].to(example.device))
    if wrong := misfit(outputs, batch, data_set, loss):
        raise TicketError(f"The network of {path} {wrong} of {data_set.name}.")


def check_size(ticket: Ticket, path: Path, example: Tensor) -> None:
    """Refuse a network that makes too much of an input; it is run without memory, on shapes alone.

    Args:
        ticket: as read; it names its network.
        path: of its file, for the message.
        example: two inputs, (2, ...).

    Raises:
        TicketError: it does.

    """
    if _is_of_code(ticket):  # the caller's own, which is believed
        return
    made, meta = 0, _without_memory(_builder(ticket, path), path)
    with suppress(Exception):  # what does not run here fails once more, with its own message, where it is to be used
        made = largest_activation(meta, example.to("meta"))
    if made > LARGEST_OUTPUT:
        raise TicketError(f"The network of {path} makes {made / 1e9:,.1f} GB of one input, which is too much to run.")


def input_shape_of(ticket: Ticket) -> tuple[int, ...] | None:
    """Return the sizes of one input of a ticket's network; None where the ticket does not say.

    Raises:
        TicketError: what it says are not sizes.

    """
    made = ticket.provenance.get("model")
    shape = made.get("input_shape") if isinstance(made, Mapping) else None
    if shape is None:
        return None
    sizes = shape if isinstance(shape, list) and 0 < len(shape) < 8 else [None]
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise TicketError(f"The ticket gives its inputs as {quoted(shape)}, which are not sizes; give --input-shape.")
    return tuple(shape)


def check_input(shape: Sequence[int]) -> None:
    """Refuse inputs that are too large to be made.

    Raises:
        SupermaskError: one has more than `LARGEST_INPUT` numbers.

    """
    if math.prod(shape) > LARGEST_INPUT:
        raise SupermaskError(f"an input of {quoted(list(shape))} has more than {LARGEST_INPUT:,} numbers.")


def _is_of_code(ticket: Ticket) -> bool:
    found = None if is_chain(ticket.provenance.get("model")) else described(ticket)
    return found is not None and models.is_code(found.name)


def _builder(ticket: Ticket, path: Path, model: str | None = None) -> Callable[[], nn.Module]:
    made = ticket.provenance.get("model")
    if is_chain(made):
        modules = made["modules"]
        if len(modules) > LONGEST_CHAIN:
            most = f"at most {LONGEST_CHAIN:,} are built"
            raise TicketError(f"{path} lists {len(modules):,} modules of its network; {most}.")
        shape = input_shape_of(ticket)
        return lambda: from_description(modules, shape)
    found = described(ticket)
    if found is None:
        raise TicketError(f"{path} does not say which model it was made from; load it in Python and apply it to yours.")
    refuse_unasked(ticket, path, model)
    return found.build


def refuse_unasked(ticket: Ticket, path: Path, model: str | None) -> None:
    """Refuse a ticket of a model that is code, unless the user named it.

    Args:
        ticket: as read.
        path: of its file, for the message.
        model: that the user named; None if none was.

    Raises:
        TicketError: the user named none, or another one.

    """
    found = None if is_chain(ticket.provenance.get("model")) else described(ticket)
    if found is None or model == found.name:
        return
    if model is not None:
        raise TicketError(f"{path} is of the model {quoted(found.name)}, not of {quoted(model)}; give that --model.")
    if models.is_code(found.name):
        raise TicketError(_unasked(path, "is of the model", found.name, "--model", "import it"))


def _unasked(path: Path, what: str, name: Any, option: str, use: str) -> str:
    """Return why something that a ticket names is left alone."""
    return (
        f"{path} {what} {quoted(name)}, which is not of this package; if you trust its maker, give {option}"
        f" {quoted(name).strip(chr(39))} to {use}."
    )


class _Computed(TorchFunctionMode):
    """Leaves small tensors that a network's maker computes with off the meta device, as torchvision's RegNets do."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cpu = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
        return func(*args, **{**cpu, **(kwargs or {})})


def _without_memory(build: Callable[[], nn.Module], path: Path) -> nn.Module:
    """Return a network on the meta device, where a tensor is its shape alone."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _Computed():
            return build()
    except SupermaskError:
        raise
    # what torch's modules raise of sizes that no tensor can have
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise TicketError(f"{path} describes a network that cannot be built ({first_line(error)}).") from None


def network_of(ticket: Ticket, path: Path, given: Path | None, model: str | None = None) -> nn.Module:
    """Return a ticket's network, in a freshly built model of the architecture that it names.

    Args:
        ticket: as read.
        path: of its file, for the message.
        given: file of the checkpoint that a ticket over given weights is over.
        model: that the user named, without which no code is imported.

    Raises:
        TicketError: the ticket names no architecture, or code that the user did not name; or the checkpoint is missing
            or another one.

    """
    return ticket.apply(built_from(ticket, path, model), given=given)


def is_chain(model: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a ticket describes the modules of its network one by one, as one that was built for a target does."""
    return isinstance(model, Mapping) and isinstance(model.get("modules"), list)


def data_of(
    ticket: Ticket, path: Path, name: str | None, *, folder: Path | None, validation: int | None, seed: int
) -> DataSet:
    """Return a data set with the pixels as a ticket's network takes them.

    Args:
        ticket: as read.
        path: of its file, for the message.
        name: of the data set, as the user named it; None is the one that the ticket was found on, if it is of this
            package.
        folder: of the data sets.
        validation: examples held out of the training set; None is the data set's usual number.
        seed: draws them.

    Raises:
        SupermaskError: neither the caller nor the ticket names a data set, or it cannot be read, or only the ticket
            names files or code.

    """
    if name is None:
        name = ticket.provenance.get("data")
        if not isinstance(name, str):
            raise SupermaskError(f"{path} does not say which data set it was found on; give --data (data= in Python).")
        if is_own(name):
            raise SupermaskError(_unasked(path, "was found on", name, "--data", "read it"))
    data_set = data.load(name, folder=folder, validation=validation, seed=seed)
    return as_taken(data_set, ticket.provenance.get("pixels"))


def as_taken(data_set: DataSet, pixels: object) -> DataSet:
    """Return a data set with its pixels as a network takes them: "raw" in [0, 1], "integers" as they are stored."""
    if pixels == "integers":
        return replace(data_set.raw(), scale=1.0)
    return data_set.raw() if pixels == "raw" else data_set


def loss_of(ticket: Ticket, path: Path, name: str | None, data_set: DataSet) -> Loss | None:
    """Return the loss that a ticket's network is measured by, as `named_loss` does.

    Args:
        ticket: as read.
        path: of its file, for the message.
        name: of the loss, as the user named it; None is the ticket's, if it is of this package.
        data_set: that it is measured on.

    Raises:
        SupermaskError: there is no such loss, or only the ticket names code.

    """
    return named_loss(named_by(ticket, path, name), data_set)


def named_by(ticket: Ticket, path: Path, name: str | None) -> str | None:
    """Return the name of the loss of a ticket, as `loss_of` reads it; None where outputs and labels say which."""
    said = ticket.provenance.get("loss")
    if name is None and said is not None and said not in [*LOSSES]:  # which may be no text at all
        raise SupermaskError(_unasked(path, "was found by the loss", said, "--loss", "import it"))
    return said if name is None else name
