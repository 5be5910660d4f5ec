"""What a run leaves: a frozen record with named fields, and its JSON form."""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from supermask.versions import commit, machine, versions

_INLINED = "inlined"
_UNMEASURED = "unmeasured"


def inlined(kind: Callable[[Mapping[str, Any]], type | None] | None = None) -> dict[str, Any]:
    """Return the metadata of a field whose record is not nested in JSON: its values stand beside the others.

    Args:
        kind: returns the type of the field's record from the values of the whole, or None where there is no record;
            by default the type is that of the field.

    """
    return {_INLINED: kind}


def may_be_unmeasured() -> dict[str, Any]:
    """Return the metadata of a number that may be NaN, where there is nothing to measure; it is null in JSON."""
    return {_UNMEASURED: True}


@dataclass(frozen=True)
class Made:
    """What a result was made with.

    Attributes:
        versions: of Python and of the packages that a result depends on.
        machine: the hardware, as `supermask.versions.machine` gives it.
        commit: of the checkout, with "+" if it was changed since; None outside one.
        processes: that measured together.

    """

    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    commit: str | None
    processes: int = 1

    @classmethod
    def here(cls, device: str, processes: int) -> "Made":
        """Return what a result on this machine is made with now."""
        return cls(versions(), machine(device), commit(), processes)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What every run leaves; what it measured is in the fields of a subclass, which defines no methods of JSON.

    In JSON the values of all fields stand side by side. A field whose default is None is left out while it is None.

    Attributes:
        config: all that the run depends on, as it comes back from JSON.
        made: with what; `supermask.runs.recorded` fills in both.

    """

    config: Mapping[str, Any] = field(default_factory=dict)
    made: Made = field(default=Made({}, {}, None), metadata=inlined())

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values: the config, what was measured, and what it was made with."""
        made = _plain_record(self.made)
        measured = {name: value for name, value in _plain_record(self).items() if name not in made}
        return {**measured, **made}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the record of plain values; those that it has no field for are left out.

        Raises:
            KeyError: a value without a default is missing.

        """
        return _read_record(cls, values)


def _plain_record(record: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for part in fields(record):
        value = getattr(record, part.name)
        if _INLINED in part.metadata:
            plain |= {} if value is None else _plain_record(value)
        elif _UNMEASURED in part.metadata and math.isnan(value):
            plain[part.name] = None
        elif value is not None or part.default is not None:  # a required None is a measurement, and is written
            plain[part.name] = _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _plain_record(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _read_record(kind: Any, values: Mapping[str, Any]) -> Any:
    types, read = get_type_hints(kind), {}
    for part in fields(kind):
        if _INLINED in part.metadata:
            choose = part.metadata[_INLINED]
            inner = choose(values) if choose else types[part.name]
            read[part.name] = None if inner is None else _read_record(inner, values)
        elif _UNMEASURED in part.metadata and values[part.name] is None:
            read[part.name] = math.nan
        elif part.name in values or _required(part):
            read[part.name] = _read(types[part.name], values[part.name])
    return kind(**read)


def _required(part: Field[Any]) -> bool:
    return part.default is MISSING and part.default_factory is MISSING


def _read(kind: Any, value: Any) -> Any:
    """Return a value of JSON as a field of this type has it: records, tuples, and mappings by numbers."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _read_record(kind, value)
    if origin in (Union, UnionType):
        return None if value is None else _read(next(each for each in inner if each is not type(None)), value)
    if origin is tuple:
        each = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return tuple(map(_read, each, value))
    if origin is not None and issubclass(origin, Mapping):
        key = inner[0] if inner[0] in (int, float) else str  # JSON has no other keys than strings
        return {key(name): _read(inner[1], part) for name, part in value.items()}
    return value
