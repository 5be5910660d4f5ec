"""The largest whole numbers that options take, for every command in one place: beyond them nothing ever ends."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from supermask.errors import SupermaskError

MOST = 1_000_000_000
"""Of whatever is counted: optimizer steps, examples, sizes. Where less is too much already, the option's owner says."""


def refuse_endless(command: object) -> None:
    """Refuse a whole number beyond any use, wherever in the options of a command it is.

    Seeds are names and not counts; they have a limit of their own.

    Raises:
        SupermaskError: there is one; it is named as on the command line.

    """
    for names, value in _numbers(command, ()):
        if abs(value) > MOST and not names[-1].endswith("seed"):
            # the options of a group stand on the command line without its name, those of a method with the method's
            flag = ".".join(names[1:] or names).replace("_", "-")
            given = str(value) if abs(value) < 10**30 else "with more than 30 digits"
            raise SupermaskError(f"--{flag} {given} is out of range; a whole number here is at most {MOST:,}.")


def _numbers(value: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if is_dataclass(value):
        for part in fields(value):
            yield from _numbers(getattr(value, part.name), (*names, part.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from _numbers(part, names)
    elif isinstance(value, int):
        yield names, value
