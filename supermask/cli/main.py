"""The entry point: parse, run, and turn what went wrong into one sentence and an exit status."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Union

from supermask.cli.plugins import Command, brought
from supermask.errors import SupermaskError

COMMANDS = ("search", "train", "compare", "evaluate", "inspect")
"""The commands of this package; others come by `supermask.cli.plugins`."""

DESCRIPTION = """Strong lottery tickets: networks that work without any weight being trained.

Inside a large random network there is already a small accurate one, found by choosing which weights stay. A found
network is kept as a ticket: a seed, which regrows the random weights, and a mask."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 2 for a bad request, 130 after Ctrl-C."""
    return guarded("supermask", lambda: _parse(sys.argv[1:] if arguments is None else arguments))


def guarded(program: str, parse: Callable[[], Command]) -> int:
    """Parse and run a command; what went wrong becomes one sentence on standard error and an exit status."""
    try:
        parse()()
    except SupermaskError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"{program}: {str(stop) or 'interrupted'}.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, e.g. head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _parse(arguments: Sequence[str]) -> Command:
    # imported here, so that an interrupt while PyTorch is being loaded ends quietly too
    from supermask.cli.compare import Compare
    from supermask.cli.single import Search, Train
    from supermask.cli.tickets import Evaluate, Inspect

    kinds: tuple[type[Command], ...] = (Search, Train, Compare, Evaluate, Inspect)
    commands = dict(zip(COMMANDS, kinds, strict=True))
    asked = arguments[0] if arguments else ""
    if asked not in commands:
        commands = {**brought(asked), **commands}
    return parse_command("supermask", DESCRIPTION, commands, arguments)


def parse_command(
    program: str, description: str, commands: Mapping[str, type[Command]], arguments: Sequence[str]
) -> Command:
    """Return the command that the arguments ask for, with its options."""
    import tyro

    command: Command
    if arguments and arguments[0] in commands:  # by itself, a command's errors name its own options
        name, *rest = arguments
        command = tyro.cli(commands[name], prog=f"{program} {name}", args=rest)
        return command
    kinds = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in commands.items())
    choice: Any = Union[kinds]  # noqa: UP007  built at run time, where "|" cannot be written
    command = tyro.cli(choice, prog=program, description=description, args=list(arguments))
    return command
