"""Commands that other packages bring, by entry points in the group `supermask.commands`."""

import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint, entry_points

from supermask.errors import SupermaskError

Command = Callable[[], None]
GROUP = "supermask.commands"


def brought(name: str) -> dict[str, type[Command]]:
    """Return the commands of other packages, by name: the one that is asked for, else all that can be loaded.

    Raises:
        SupermaskError: the one that is asked for cannot be loaded.

    """
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in entries:
        return {name: _load(entries[name])}
    commands = {}
    for entry in entries.values():
        try:
            commands[entry.name] = _load(entry)
        except SupermaskError as error:  # the other commands work without it
            print(f"supermask: {error}", file=sys.stderr)
    return commands


def _load(entry: EntryPoint) -> type[Command]:
    try:
        kind: type[Command] = entry.load()
    except Exception as error:  # the import runs anyone's code
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise SupermaskError(
            f"The command {entry.name} cannot be loaded from {entry.value} ({reason}); install its package again."
        ) from error
    sound = isinstance(kind, type) and is_dataclass(kind)
    if not sound:
        raise SupermaskError(
            f"The command {entry.name} is not a dataclass in {entry.value}; install its package again."
        )
    return kind
