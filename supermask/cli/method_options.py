"""The options of the methods on the command line: `--METHOD.OPTION`, from the registry of methods."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any

from tyro.conf import arg

from supermask.baselines.method import Method
from supermask.baselines.searched import SearchMethod
from supermask.errors import SupermaskError
from supermask.runs import METHODS


def _kind() -> type:
    """Return a dataclass with a field for each method that has options."""
    return _made(METHODS)


def _kind_of_searches() -> type:
    """Return a dataclass with a field for each search that has options."""
    return _made({name: method for name, method in METHODS.items() if isinstance(method, SearchMethod)})


def _made(methods: Mapping[str, Method]) -> type:
    parts = [(name, _shown(method), field(default=method)) for name, method in methods.items() if fields(method)]
    return make_dataclass("Options", parts, frozen=True)


def _shown(method: Method) -> Any:
    summary = inspect.cleandoc(type(method).__doc__ or method.name).split("\n\n")[0]
    return Annotated[type(method), arg(help=" ".join(summary.split()))]


def default_options() -> Any:
    """Return every method's default options, as `MethodOptions` has them."""
    return _kind()()


def default_search_options() -> Any:
    """Return every search's default options, as `SearchMethodOptions` has them."""
    return _kind_of_searches()()


def only_options(options: Any, name: str) -> Any:
    """Return the options of one method alone, in the form of all."""
    method: Method = getattr(options, name)
    return _made({name: method})()


# made when a command line is parsed, so that a method has its options as soon as it is in the registry
MethodOptions = Annotated[Any, arg(name="", constructor_factory=_kind)]
"""The type of a command's field that holds the options of all methods."""

SearchMethodOptions = Annotated[Any, arg(name="", constructor_factory=_kind_of_searches)]
"""The type of a command's field that holds the options of all searches."""

SearchName = Annotated[
    str, arg(help=f"Search: {', '.join(name for name, way in METHODS.items() if isinstance(way, SearchMethod))}.")
]
"""The type of a command's field that names a search."""

MethodNames = Annotated[str, arg(help=f"Methods, separated by commas: {', '.join(METHODS)}.")]
"""The type of a command's field that lists methods."""


def options_of(methods: Sequence[str], options: Any) -> dict[str, Method]:
    """Return the options of all methods that have some, by name.

    Args:
        methods: names of those that are run.
        options: the field of a command.

    Raises:
        SupermaskError: an option was given of another method.

    """
    given: dict[str, Method] = {part.name: getattr(options, part.name) for part in fields(options)}
    for name in given.keys() - methods:
        changed = [part.name for part in fields(given[name]) if _differ(given[name], METHODS[name], part.name)]
        if changed:
            option = f"--{name}.{changed[0]}".replace("_", "-")
            raise SupermaskError(f"{option} is given, but not its method; ask for {name} too, or leave it out.")
    return given


def _differ(one: Method, other: Method, option: str) -> bool:
    return bool(getattr(one, option) != getattr(other, option))
