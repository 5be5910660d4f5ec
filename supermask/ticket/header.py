"""The header of a ticket's file: a table of its fields, each with what it must be, by which it is checked once.

A sealed file may still hold anything. Whoever reads the header behind this check finds the types and the ranges that
the table promises, and numbers that fit what they are used for.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from supermask.errors import TicketError
from supermask.shown import quoted

Check = Callable[[Any, str], None]
"""Refuses a value that is not what it should be; the text says what it is."""

OWN = "file"
"""The field that says how the coded section is read."""
_DEEPEST = 64  # of nested values: what is read by functions that call themselves stays far below Python's limit
_LARGEST = 3.4e38  # of float32, in which weights are grown
_INTEGER = 2**63 - 1
_DIMENSIONS = 64  # of a numpy array


@dataclass(frozen=True)
class Own:
    """How the coded section is read.

    Attributes:
        masks: shapes by name, in the order of their codes.
        treatments: by the name of their mask: gain, whether values were reshuffled, whether factors and redraws follow.
        presets: by the name of their mask: entries that are always pruned, and always kept.

    """

    masks: Mapping[str, tuple[int, ...]]
    treatments: Mapping[str, list[Any]]
    presets: Mapping[str, list[int]]


def read_header(text: bytes) -> tuple[dict[str, Any], Own]:
    """Return the fields of a header that are a ticket's, and how the coded section is read.

    Raises:
        TicketError: it is not a header, or a field is not what it should be.

    """
    try:
        header = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise TicketError(f"its parts are not those of a ticket: its header is not JSON ({_reason(error)}).") from None
    check_plain(header)
    _record({OWN: _own})(header, "its header")
    for name, check in FIELDS.items():
        if name in header:
            check(header[name], name)
    own = header.pop(OWN)
    shapes = {name: tuple(shape) for name, shape in own.get("masks", {}).items()}
    return header, Own(shapes, own.get("treatments", {}), own.get("presets", {}))


def check_plain(values: Any) -> None:
    """Refuse nested values that cannot be shown, or cannot be written.

    Raises:
        TicketError: a text is not Unicode, or values are nested too deep.

    """
    todo = [(values, 0)]
    while todo:
        value, depth = todo.pop()
        if depth > _DEEPEST:
            raise TicketError(f"its header nests values more than {_DEEPEST} deep; give flatter ones.")
        if isinstance(value, str):
            _text(value, "a text of its header")
        elif isinstance(value, Mapping):
            todo += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            todo += [(part, depth + 1) for part in value]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _reason(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error).rstrip(".")


def _refuse(value: Any, what: str, wanted: str) -> TicketError:
    return TicketError(f"its parts are not those of a ticket: {what} is {quoted(value)}, not {wanted}.")


# ---- what a value must be


def _text(value: Any, what: str) -> None:
    if not isinstance(value, str):
        raise _refuse(value, what, "a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refuse(value, what, "Unicode") from None


def _flag(value: Any, what: str) -> None:
    if not isinstance(value, bool):
        raise _refuse(value, what, "true or false")


def _whole(value: Any, what: str) -> None:
    # a bool is an int in Python
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _INTEGER:
        raise _refuse(value, what, "a whole number from 0 to 2**63 - 1")


def _number(value: Any, what: str) -> None:
    # compared before anything is computed: 10**400 is an integer that no float holds
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST <= value <= _LARGEST:
        raise _refuse(value, what, "a number that float32 holds")


def _digest(value: Any, what: str) -> None:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise _refuse(value, what, "64 hexadecimal digits")


def _values(value: Any, what: str) -> None:
    if not isinstance(value, dict):
        raise _refuse(value, what, "values by name")


def _list(each: Check, most: int | None = None) -> Check:
    def check(value: Any, what: str) -> None:
        if not isinstance(value, list) or (most is not None and len(value) > most):
            raise _refuse(value, what, "a list" + ("" if most is None else f" of at most {most}"))
        for part in value:
            each(part, f"an entry of {what}")

    return check


def _row(*each: Check) -> Check:
    """Return the check of a list with so many entries, each of its own kind."""

    def check(value: Any, what: str) -> None:
        if not isinstance(value, list) or len(value) != len(each):
            raise _refuse(value, what, f"a list of {len(each)}")
        for place, (part, of) in enumerate(zip(value, each, strict=True)):
            of(part, f"entry {place} of {what}")

    return check


def _by_name(each: Check) -> Check:
    def check(value: Any, what: str) -> None:
        _values(value, what)
        for name, part in value.items():
            each(part, f"{quoted(name)} of {what}")

    return check


def _record(needed: Mapping[str, Check]) -> Check:
    def check(value: Any, what: str) -> None:
        _values(value, what)
        for name, of in needed.items():
            if name not in value:
                raise TicketError(f"its parts are not those of a ticket: {what} has no {name!r}.")
            of(value[name], name)

    return check


def _distribution(value: Any, what: str) -> None:
    """Refuse what is not a name with parameters; a sign has a distribution that it is of."""
    _values(value, what)
    for name, part in value.items():
        if isinstance(part, dict) and name == "of":
            _distribution(part, f"{name} of {what}")
        elif not isinstance(part, str):
            _number(part, f"{quoted(name)} of {what}")


_SHAPE = _list(_whole, _DIMENSIONS)


def _own(value: Any, what: str) -> None:
    _values(value, what)
    for name, check in _OWN_FIELDS.items():
        if name in value:
            check(value[name], name)


_OWN_FIELDS: Mapping[str, Check] = {
    "masks": _by_name(_SHAPE),
    "treatments": _by_name(_row(_number, _flag, _flag, _flag)),
    "presets": _by_name(_row(_whole, _whole)),
}

FIELDS: Mapping[str, Check] = MappingProxyType(
    {
        "seed": _whole,
        "distributions": _list(_distribution),
        "weights": _by_name(_row(_SHAPE, _whole, _row(_whole, _whole), _number)),  # shape, distribution, fans, scale
        "constants": _by_name(_number),
        "bypassed": _list(_text),
        "digest": _digest,
        "given": _record({"name": _text, "tensors": _by_name(_row(_SHAPE, _text, _digest))}),  # shape, dtype, SHA-256
        "provenance": _values,
        "tasks": _list(_values),  # in the place of the provenance, where a file holds several tickets
    }
)
"""What each field of a header must be where it is there. A new field is a line here, and one where it is read."""
