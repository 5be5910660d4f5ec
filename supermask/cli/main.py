"""The entry point: parse, run, and turn what went wrong into one sentence and an exit status."""

import os
import sys
from collections.abc import Callable, Sequence

from supermask.errors import SupermaskError

DESCRIPTION = """Strong lottery tickets: networks that work without any weight being trained.

Inside a large random network there is already a small accurate one, found by choosing which weights stay. A found
network is kept as a ticket: a seed, which regrows the random weights, and a mask."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 2 for a bad request, 130 after Ctrl-C."""
    return guarded("supermask", lambda: _parse(sys.argv[1:] if arguments is None else arguments))


def guarded(program: str, parse: Callable[[], Callable[[], None]]) -> int:
    """Parse and run a command; what went wrong becomes one sentence on standard error and an exit status."""
    try:
        parse()()
    except SupermaskError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        reason = f"{stop}; the same command with --resume goes on" if str(stop) else "interrupted"
        print(f"{program}: {reason}.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, e.g. head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _parse(arguments: Sequence[str]) -> Callable[[], None]:
    # imported here, so that an interrupt while PyTorch is being loaded ends quietly too
    import tyro

    from supermask.cli.compare import Compare
    from supermask.cli.single import Search, Train
    from supermask.cli.tickets import Evaluate, Inspect

    commands: dict[str, Callable[..., Callable[[], None]]] = {
        "search": Search,
        "train": Train,
        "compare": Compare,
        "evaluate": Evaluate,
        "inspect": Inspect,
    }
    command: Callable[[], None] = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="supermask",
        description=DESCRIPTION,
        args=list(arguments),
    )
    return command
