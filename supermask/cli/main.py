"""The entry point: parse, run, and turn what went wrong into one sentence and an exit status."""

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Annotated, Any, Union

from supermask.cli.limits import refuse_endless
from supermask.cli.plugins import Command, brought
from supermask.errors import SupermaskError, reason_of
from supermask.shown import printable, shortened

COMMANDS = {
    "search": "supermask.cli.single:Search",
    "train": "supermask.cli.single:Train",
    "compare": "supermask.cli.compare:Compare",
    "sweep": "supermask.cli.sweep:Sweep",
    "evaluate": "supermask.cli.tickets:Evaluate",
    "judge": "supermask.cli.judge:Judge",
    "inspect": "supermask.cli.tickets:Inspect",
    "transfer": "supermask.cli.transfer:Transfer",
    "export": "supermask.cli.export:Export",
}
"""The commands of this package and their dataclasses; others come by `supermask.cli.plugins`."""

DESCRIPTION = """Strong lottery tickets: networks that work without any weight being trained.

Inside a large random network there is already a small accurate one, found by choosing which weights stay. A found
network is kept as a ticket: a seed, which regrows the random weights, and a mask."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 2 for a bad request, 130 after Ctrl-C."""
    given = sys.argv[1:] if arguments is None else arguments
    return guarded("supermask", lambda: _said_once(lambda: _parse(given)))


def guarded(program: str, parse: Callable[[], Command]) -> int:
    """Parse and run a command; what went wrong becomes one sentence on standard error and an exit status."""
    try:
        command = parse()
        try:
            command()
        except (SystemExit, GeneratorExit) as end:  # of code that the user named; a status of 0 would be a lie
            said = f"{type(end).__name__} {shortened(str(end))}".strip()
            raise SupermaskError(
                f"Code that the command called ended the program ({said}); nothing came of it."
            ) from end
        sys.stdout.flush()  # here, so that a full disk behind it is told as such
    except KeyboardInterrupt as stop:
        _say(f"{program}: {str(stop) or 'interrupted'}.")
        # 128 + 2, as a shell reports a process that SIGINT ended
        return 130
    except BrokenPipeError:  # the reader of a pipe, e.g. head, has had enough
        _drop_output()
        # 128 + 13, as a shell reports a process that SIGPIPE ended
        return 141
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        _say(f"{program}: {reason}")
        _drop_output()
        return 2
    return 0


def _drop_output() -> None:
    """Let Python flush standard output at its end, where that would fail once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(sentence: str) -> None:
    """Print a sentence on standard error; of what all processes of torchrun have to say, one of them prints it."""
    if "WORLD_SIZE" in os.environ:
        from supermask.training.processes import first_to_say

        if not first_to_say(sentence):
            return
    print(sentence, file=sys.stderr, flush=True)


def _said_once(parse: Callable[[], Command]) -> Command:
    """Parse; help, or what is wrong with the arguments, is printed by one process of torchrun."""
    if "WORLD_SIZE" not in os.environ:
        return parse()
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            return parse()
    except SystemExit:
        _say(said.getvalue())
        raise


def _parse(arguments: Sequence[str]) -> Command:
    # imported here, so that an interrupt while PyTorch is being loaded ends quietly too
    from supermask.training.processes import launched

    asked = arguments[0] if arguments else ""
    if asked in ("-h", "--help"):
        from supermask.cli.listing import listing

        print(listing("supermask", DESCRIPTION, COMMANDS))
        raise SystemExit(0)
    if launched()[1] > 1 and asked not in ("search", "train", "compare"):
        raise SupermaskError("Several processes can search, train and compare; run anything else without torchrun.")
    if asked in COMMANDS:  # the others would take their time to import
        commands = {asked: _own(asked)}
    else:
        # its own commands last, so that no other package replaces one of them
        commands = {**brought(asked), **{name: _own(name) for name in COMMANDS}}
    return parse_command("supermask", DESCRIPTION, commands, arguments)


def _own(name: str) -> type[Command]:
    module, kind = COMMANDS[name].split(":")
    command: type[Command] = getattr(import_module(module), kind)
    return command


@contextmanager
def _shown_safely(arguments: Sequence[str]) -> Iterator[None]:
    """Escape what would steer a terminal in what the parser says: it repeats the words that it was given."""
    if all(word.isprintable() for word in arguments):
        yield
        return
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    finally:
        sys.stderr.write("".join(f"{printable(line)}\n" for line in said.getvalue().splitlines()))


def parse_command(
    program: str, description: str, commands: Mapping[str, type[Command]], arguments: Sequence[str]
) -> Command:
    """Return the command that the arguments ask for, with its options."""
    import tyro

    command: Command
    if arguments and arguments[0] in commands:  # by itself, a command's errors name its own options
        name, *rest = arguments
        kind, shown = commands[name], None
        start = getattr(kind, "preset", None)
        default = start(rest) if start else None
        topic = topic_in(rest)
        if topic is not None:
            from supermask.cli.help import has_topics, help_of

            if has_topics(kind):
                kind, default, shown = help_of(kind, default, topic)
                rest = ["--help"] if topic else rest  # the type of a topic does not parse the other options
        with _shown_safely(rest):
            parsed: Any = tyro.cli(kind, prog=f"{program} {name}", args=rest, default=default, description=shown)
        refuse_endless(parsed)
        command = parsed
        return command
    kinds = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in commands.items())
    choice: Any = Union[kinds]  # noqa: UP007  built at run time, where "|" cannot be written
    with _shown_safely(arguments):
        command = tyro.cli(choice, prog=program, description=description, args=list(arguments))
    return command


def topic_in(arguments: Sequence[str]) -> str | None:
    """Return what comes after --help, "" if nothing does, None where help is not asked for."""
    for place, argument in enumerate(arguments):
        if argument in ("-h", "--help"):
            return "".join(arguments[place + 1 : place + 2])
    return None
