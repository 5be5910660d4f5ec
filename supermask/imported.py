"""Code of the caller's own, named by a text: `package.module:name`, or a name that an installed package registers.

Only what a user names is imported. A text that a file brings must never come here.
"""

import inspect
import os
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from supermask.errors import SupermaskError, first_line
from supermask.shown import quoted, shortened

PLACE = "package.module:name"
"""How code is named, worded for a message or a help text."""
_NAME = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def is_place(text: str) -> bool:
    """Whether a text is of the form `package.module:name`."""
    return re.fullmatch(f"{_NAME}:{_NAME}", text) is not None


def registered(group: str, name: str) -> EntryPoint | None:
    """Return what an installed package registers by that name in a group of entry points; nothing is imported."""
    return next(iter(entry_points(group=group, name=name)), None)


def imported(text: str) -> Any:
    """Return what `package.module:name` stands for.

    The module is looked for on Python's path, and then in the current directory.

    Raises:
        SupermaskError: the module cannot be imported, or has no such name.

    """
    module, _, name = map(shortened, text.partition(":"))
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last, so that a file there takes no installed package's place
    try:
        found: Any = import_module(module)
    except (Exception, SystemExit) as error:  # the import runs anyone's code
        raise SupermaskError(
            f"Cannot import {module} of {shortened(text)}: {_told(error)}; modules are looked for on Python's path"
            " and in the current directory."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise SupermaskError(
                f"{module} has nothing called {name}; {shortened(text)} should name a function or a class of it."
            )
        found = getattr(found, part)
    return found


def loaded(text: str, group: str) -> Any:
    """Return what a text stands for: a name that a package registers in a group, or `package.module:name`.

    Raises:
        SupermaskError: it cannot be imported.

    """
    entry = registered(group, text)
    return imported(text if entry is None else entry.value)


def called(text: str, factory: Any, offered: Mapping[str, Any]) -> Any:
    """Return what a factory makes, called with those of the keywords that its signature names.

    Args:
        text: that named it, for the message.
        factory: a function or a class.
        offered: keywords with their values.

    Raises:
        SupermaskError: it cannot be called, or raised an error.

    """
    if not callable(factory):
        raise SupermaskError(
            f"{text} is of type {type(factory).__name__}, which cannot be called; name a function or a class."
        )
    taken = keywords_of(factory)
    given = {name: value for name, value in offered.items() if name in taken}
    try:
        return factory(**given)
    except (Exception, SystemExit, GeneratorExit) as error:  # it is anyone's code
        with_what = ", ".join(f"{name}={quoted(value)}" for name, value in given.items()) or "nothing"
        raise SupermaskError(f"{text}, called with {with_what}, raised {_told(error)}.") from error


def keywords_of(factory: Any) -> set[str]:
    """Return the keywords that a signature names; none where there is no signature to be read."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # of some that are written in C
        return set()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {each.name for each in parameters if each.kind in kinds}


def _told(error: BaseException) -> str:
    return f"{type(error).__name__} ({shortened(first_line(error))})"
