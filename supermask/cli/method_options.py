"""The options of the methods on the command line: `--METHOD.OPTION`, from the registry of methods."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass, replace
from functools import cache
from typing import Annotated, Any, get_type_hints

from tyro.conf import arg

from supermask.errors import SupermaskError
from supermask.runs import METHODS
from supermask.search.algorithm import Algorithm


def default_options() -> Any:
    """Return every method's default options, as `MethodOptions` has them."""
    return _kind()()


def default_search_options() -> Any:
    """Return every search's default options, as `SearchMethodOptions` has them."""
    return _kind_of_searches()()


def only_options(options: Any, name: str) -> Any:
    """Return the options of one method alone, in the form of all."""
    own = getattr(options, name)
    return _with({name: own})()


def _kind() -> type:
    """Return a dataclass with a field for each method that has options."""
    return _made(METHODS)


def _kind_of_searches() -> type:
    """Return a dataclass with a field for each search that has options."""
    return _made({name: METHODS[name] for name in _searches()})


def _searches() -> list[str]:
    return [name for name, way in METHODS.items() if way.rule is not None]


def _made(methods: Mapping[str, Algorithm]) -> type:
    return _with({name: _own(type(way))(**way.own_options()) for name, way in methods.items() if way.own_fields()})


def _with(defaults: Mapping[str, Any]) -> type:
    """Return a dataclass with a field for the options of each of these methods."""
    parts: list[Any] = [
        (name, Annotated[type(own), arg(help=_summary(METHODS[name]))], field(default=own))
        for name, own in defaults.items()
    ]
    return make_dataclass("Options", parts, frozen=True)


@cache  # so that the type of a field is that of its default
def _own(kind: type[Algorithm]) -> type:
    """Return a dataclass of a method's own options alone, with the method's description of them."""
    if kind.own_fields() == fields(kind):
        return kind
    hints = get_type_hints(kind, include_extras=True)
    parts = [(part.name, hints[part.name]) for part in kind.own_fields()]
    return make_dataclass(kind.__name__, parts, frozen=True, namespace={"__doc__": kind.__doc__})


def _summary(method: Algorithm) -> str:
    summary = inspect.cleandoc(type(method).__doc__ or method.name).split("\n\n")[0]
    return " ".join(summary.split())


# made when a command line is parsed, so that a method has its options as soon as it is in the registry
MethodOptions = Annotated[Any, arg(name="", constructor_factory=_kind)]
"""The type of a command's field that holds the options of all methods."""

SearchMethodOptions = Annotated[Any, arg(name="", constructor_factory=_kind_of_searches)]
"""The type of a command's field that holds the options of all searches."""

SearchName = Annotated[str, arg(help=f"Search: {', '.join(_searches())}.")]
"""The type of a command's field that names a search."""

MethodNames = Annotated[str, arg(help=f"Methods, separated by commas: {', '.join(METHODS)}.")]
"""The type of a command's field that lists methods."""


def options_of(methods: Sequence[str], options: Any) -> dict[str, Algorithm]:
    """Return those of the methods that have options, with the options given, by name.

    Args:
        methods: names of those that are run.
        options: the field of a command.

    Raises:
        SupermaskError: an option was given of another method, or is out of range.

    """
    given = {part.name: vars(getattr(options, part.name)) for part in fields(options)}
    for name in given.keys() - methods:
        default = METHODS[name].own_options()
        changed = [option for option, value in given[name].items() if value != default[option]]
        if changed:
            option = f"--{name}.{changed[0]}".replace("_", "-")
            raise SupermaskError(f"{option} is given, but not its method; ask for {name} too, or leave it out.")
    return {name: replace(METHODS[name], **own) for name, own in given.items()}
