"""What `supermask --help` shows: each command in a line, read from its source, because importing all takes seconds."""

import ast
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill, wrap

from supermask.cli.plugins import GROUP
from supermask.errors import SupermaskError
from supermask.shown import printable

COLUMNS = 80


def listing(program: str, description: str, own: Mapping[str, str]) -> str:
    """Return the help of a program: its own commands, then those of other packages.

    A command of another package that is not found is named on standard error, and left out.

    Args:
        program: its name.
        description: what it is for.
        own: the places of its commands by name, as "package.module:Class".

    """
    lines = dict[str, str]()
    brought = {entry.name: entry.value for entry in entry_points(group=GROUP) if entry.name not in own}
    for name, place in {**own, **brought}.items():
        try:
            lines[name] = summary(place)
        except (LookupError, OSError, SyntaxError, ImportError, ValueError) as error:
            said = SupermaskError(f"The command {name} is not found in {place} ({error}); install its package again.")
            print(f"{program}: {said}", file=sys.stderr)
    width = max(map(len, lines)) + 4
    shown = [
        text
        for name, line in lines.items()
        for text in wrap(
            printable(line), COLUMNS, initial_indent=f"  {name:<{width - 2}}", subsequent_indent=" " * width
        )
    ]
    return "\n".join(
        [
            f"usage: {program} COMMAND [options]",
            "",
            "\n\n".join(fill(part, COLUMNS) for part in description.split("\n\n")),
            "",
            *shown,
            "",
            f"{program} COMMAND --help gives its options, with defaults and units.",
        ]
    )


def summary(place: str) -> str:
    """Return the first line of the docstring of a class, which nothing is imported for.

    Args:
        place: "package.module:Class"; a name that the module imports from another is followed there.

    Raises:
        LookupError: there is no such module, or no such class in it.
        OSError: its source cannot be read.
        SyntaxError: its source is not Python.

    """
    module, _, name = place.partition(":")
    for node in ast.parse(_source(module).read_bytes()).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return summary(f"{node.module}:{alias.name}")
    raise LookupError(f"it has no class {name}")


def _source(module: str) -> Path:
    first, *rest = module.split(".")
    found = find_spec(first)  # of a package alone: for a module within it, the package would be imported
    if found is None or found.origin is None:
        raise LookupError(f"there is no package {first}")
    path = Path(found.origin)
    if not rest:
        return path
    inner = path.parent.joinpath(*rest)
    return inner / "__init__.py" if inner.is_dir() else inner.with_suffix(".py")
