"""The command `python -m experiments records`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from experiments.records.adding import add
from experiments.records.board import board, plot
from experiments.records.record import ENTRIES, read_entries
from experiments.records.referee import check_chain, check_files
from supermask.cli.main import guarded, parse_command
from supermask.errors import SupermaskError
from supermask.files import relative, write_whole


@dataclass(frozen=True)
class Board:
    """Print the board, and write it as board.md and board.png beside the entries."""

    entries: Path = ENTRIES
    """Folder of the entries."""

    def __call__(self) -> None:
        """Write and print the board."""
        found = read_entries(self.entries)
        shown = board(found)
        write_whole(self.entries.parent / "board.md", shown.encode())
        plot(found, self.entries.parent / "board.png")
        print(shown, end="")


@dataclass(frozen=True)
class Check:
    """Evaluate the files of all entries, each in a fresh process, and compare them with their records."""

    entries: Path = ENTRIES
    """Folder of the entries."""

    def __call__(self) -> None:
        """Check the entries; all of them are looked at before one that is wrong is told."""
        found, wrong = read_entries(self.entries), []
        if not found:
            raise SupermaskError(f"There is no entry in {self.entries}; give the folder whose folders are entries.")
        for entry in found:
            try:
                check_chain(found, entry)
                check_files(entry.record, entry.folder)
                print(f"{entry.name}: right")
            except SupermaskError as error:
                wrong.append(str(error))
                print(f"{entry.name}: {error}")
        if wrong:
            raise SupermaskError(f"{len(wrong)} of {len(found)} entries are wrong; the first: {wrong[0]}")
        print(f"{len(found)} entries are as their records say.")


@dataclass(frozen=True)
class Add:
    """Append an entry made from finished runs of supermask search, if it beats the last record of its tier."""

    runs: Positional[Path]
    """Folder whose folders are the runs, one for each seed."""

    tier: int
    """Bytes of the tier."""

    command: str
    """The command that made the runs, as it was typed; it stands on the board."""

    entries: Path = ENTRIES
    """Folder of the entries."""

    def __call__(self) -> None:
        """Add the entry and write the board."""
        entry, p = add(self.runs, self.tier, self.command, entries=self.entries)
        beaten = "the first of its tier" if p is None else f"p = {p:.2g} over the last"
        print(f"{relative(entry.folder)}: {entry.record.error.percent()} in {entry.record.bytes:,} bytes, {beaten}")
        Board(self.entries)()


def records(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit status; without a command, print the board."""
    commands = {"board": Board, "check": Check, "add": Add}
    given = list(arguments) or ["board"]
    description = "The smallest accurate files by tiers of bytes."
    return guarded("experiments", lambda: parse_command("python -m experiments records", description, commands, given))
