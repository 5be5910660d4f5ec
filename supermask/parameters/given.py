"""Given weights: those of a checkpoint, in place of random ones. A ticket names them by content, and holds none."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from supermask.errors import SupermaskError, TicketError
from supermask.parameters.parameters import saved_tensors
from supermask.parameters.patterns import matching

GIVEN = "given"
_SHOWN = 3  # of what a refusal lists


@dataclass(frozen=True)
class Given:
    """In place of a distribution of random weights: the model keeps the weights that it has.

    Attributes:
        name: of their checkpoint, for readers of the ticket; what counts is the content.

    Raises:
        SupermaskError: the name is not a text.

    """

    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SupermaskError(f"Given({self.name!r}) has no name; give a text, and the weights in the model itself.")


class GivenTensor(NamedTuple):
    """What is known of a tensor of a checkpoint.

    Attributes:
        shape: of the tensor.
        dtype: such as "float32".
        sha256: of its bytes, row-major, as 64 hexadecimal digits.

    """

    shape: tuple[int, ...]
    dtype: str
    sha256: str

    @classmethod
    def of(cls, tensor: Tensor) -> "GivenTensor":
        """Return what is to be known of a tensor."""
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        return cls(tuple(tensor.shape), _dtype(tensor), hashlib.sha256(data).hexdigest())

    def fault(self, tensor: Tensor) -> str | None:
        """Return in words how a tensor differs from this one; None where it is the same to the last bit."""
        if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_quantized:
            return "is not a plain tensor of numbers"
        if tuple(tensor.shape) != self.shape:
            return f"has shape {tuple(tensor.shape)}, not {self.shape}"
        if _dtype(tensor) != self.dtype:
            return f"is {_dtype(tensor)}, not {self.dtype}"
        return None if GivenTensor.of(tensor).sha256 == self.sha256 else "has other values"


@dataclass(frozen=True)
class Checkpoint:
    """The given weights that a ticket is over: their name, and what is known of each tensor.

    Attributes:
        name: of the checkpoint, for readers.
        tensors: by the name that the model has for them; of a tied one the first.

    """

    name: str
    tensors: Mapping[str, GivenTensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))

    @classmethod
    def of(cls, name: str, tensors: Mapping[str, Tensor]) -> "Checkpoint":
        """Return the checkpoint of these tensors."""
        return cls(name, {each: GivenTensor.of(tensor) for each, tensor in tensors.items()})

    def only(self, names: Iterable[str]) -> "Checkpoint":
        """Return the checkpoint of those of its tensors that have these names."""
        chosen = set(names)
        return replace(self, tensors={name: each for name, each in self.tensors.items() if name in chosen})

    @property
    def digest(self) -> str:
        """SHA-256 of the names, shapes, dtypes and bytes of the tensors, in any order, as 64 hexadecimal digits."""
        total = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            total.update(f"{name}\0{tensor.shape}\0{tensor.dtype}\0{tensor.sha256}\0".encode())
        return total.hexdigest()

    @property
    def title(self) -> str:
        """The name and the first digits of the digest, for messages."""
        return f"{self.name or 'without a name'} (SHA-256 {self.digest[:16]}…)"

    def describe(self) -> dict[str, Any]:
        """Return plain values, as `from_description` reads them."""
        tensors = {name: [list(each.shape), each.dtype, each.sha256] for name, each in self.tensors.items()}
        return {"name": self.name, "tensors": tensors}

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> "Checkpoint":
        """Return the checkpoint that `describe` described."""
        tensors = described["tensors"].items()
        return cls(
            described["name"],
            {name: GivenTensor(tuple(shape), dtype, sha256) for name, (shape, dtype, sha256) in tensors},
        )

    def read(self, given: str | Path | Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of this checkpoint, on the CPU, each compared to the last bit.

        Args:
            given: a file of safetensors, a file of torch.save, or tensors by name.
            model: whose tied parameters a checkpoint may hold under any of their names.

        Raises:
            TicketError: it cannot be read, or tensors are missing or differ; the message names the first of them.

        """
        aliases = _aliases(model)
        wanted = {name: aliases.get(name, (name,)) for name in self.tensors}
        there = _loaded(given, {alias for names in wanted.values() for alias in names})
        found, problems = dict[str, Tensor](), list[str]()
        for name, known in self.tensors.items():
            tensor = next((there[alias] for alias in wanted[name] if alias in there), None)
            fault = f"lacks {name}" if tensor is None else known.fault(tensor)
            if tensor is None or fault:
                problems.append(f"it {fault}" if tensor is None else f"its {name} {fault}")
            else:
                found[name] = tensor.detach().cpu()
        if problems:
            more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
            raise TicketError(
                f"What was given is not the checkpoint that the ticket is over, {self.title}:"
                f" {'; '.join(problems[:_SHOWN])}{more}; give that one, unchanged."
            )
        return found


@torch.no_grad()
def load_given(model: nn.Module, given: str | Path | Mapping[str, Tensor], *, spared: Sequence[str] = ()) -> None:
    """Write a checkpoint into a model, in place: every parameter and saved buffer that it has.

    Args:
        model: freshly built.
        given: a file of safetensors, a file of torch.save, or tensors by name.
        spared: names of parameters, * and ? match, that stay where the checkpoint has none that fits, such as those
            of a new head.

    Raises:
        TicketError: it cannot be read, or lacks a tensor, or has it in another shape or dtype; the model is untouched.

    """
    tensors, aliases = saved_tensors(model), _aliases(model)
    there = _loaded(given, {alias for name in tensors for alias in aliases[name]})
    found = {name: next((there[each] for each in aliases[name] if each in there), None) for name in tensors}
    faults = {name: _misfit(name, found[name], tensor) for name, tensor in tensors.items()}
    excused = matching(tuple(spared), tensors, "learned")
    problems = [fault for name, fault in faults.items() if fault and name not in excused]
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise TicketError(
            f"The checkpoint does not fit the model: {'; '.join(problems[:_SHOWN])}{more}; give one of the same shapes"
            " and dtypes, and name what it need not have, such as a new head, with learned=."
        )
    for name, tensor in tensors.items():
        if not faults[name]:
            tensor.copy_(cast(Tensor, found[name]))


def _misfit(name: str, tensor: Tensor | None, like: Tensor) -> str | None:
    """Return in words what keeps a tensor from being written; None where nothing does."""
    if tensor is None:
        return f"it lacks {name}"
    if tensor.shape != like.shape:
        return f"its {name} has shape {tuple(tensor.shape)}, not {tuple(like.shape)}"
    return None if tensor.dtype == like.dtype else f"its {name} is {_dtype(tensor)}, not {_dtype(like)}"


def _loaded(given: object, names: set[str]) -> Mapping[str, Tensor]:
    """Return those tensors that have these names."""
    if isinstance(given, Mapping):
        return _tensors("The mapping that was given", given, names)
    if not isinstance(given, str | Path):
        raise TicketError(
            f"given={type(given).__name__} was passed; give the path of a checkpoint, or its tensors by name, as"
            " state_dict() returns them."
        )
    try:
        if Path(given).suffix == ".safetensors":
            with safe_open(given, "pt") as file:
                there = list(file.keys())  # it is not a mapping: it cannot be iterated
                return {name: file.get_tensor(name) for name in there if name in names}
        return _tensors(str(given), torch.load(given, map_location="cpu", weights_only=True), names)
    except OSError as error:
        raise TicketError(f"Cannot read the checkpoint {given}: {error.strerror or error}.") from None
    except TicketError:
        raise
    except Exception:  # torch's reader raises of every kind on bytes that are not its own
        raise TicketError(
            f"{given} is not a sound checkpoint; give a whole file of safetensors (.safetensors), or one of torch.save"
            " that holds nothing but tensors by name."
        ) from None


def _tensors(what: str, held: object, names: set[str]) -> dict[str, Tensor]:
    """Return those of a mapping's tensors that have these names."""
    parts = held if isinstance(held, Mapping) else {}
    tensors = {name: each for name, each in parts.items() if isinstance(each, Tensor)}
    if not tensors:
        inside = f" ({', '.join(map(str, list(parts)[:_SHOWN]))})" if parts else ""
        raise TicketError(f"{what} holds no tensors by name{inside}; give a state_dict, not what it lies in.")
    return {name: each for name, each in tensors.items() if name in names}


def _aliases(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return all names of each parameter and buffer by its first."""
    every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    names: dict[int, list[str]] = {}
    for name, tensor in every:
        names.setdefault(id(tensor), []).append(name)
    return {first: (first, *others) for first, *others in names.values()}


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def named_given(weights: object) -> Given | None:
    """Return the given weights that an option asks for; None where it asks for a distribution."""
    if isinstance(weights, Given):
        return weights
    return Given() if weights == GIVEN else None
