"""`supermask judge`: a report on one ticket, of what can be measured in the time given."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from supermask.cli.options import Common, LossName, TicketData, TicketModel
from supermask.errors import SupermaskError
from supermask.files import held, make_folder, relative
from supermask.runs.diagnostics import Context, examine, write_report
from supermask.training import Stopped

MOST_MINUTES = 525_600
"""Minutes of a year; no diagnostic takes a day."""


@dataclass(frozen=True)
class Judge(Common):
    """Write a report on a ticket: what it is, how accurate it is, its layers, and its controls with verdicts.

    The diagnostics are begun in the order of what they are worth, and only while their estimates fit the time that is
    left; the report lists what did not fit. Each is kept in a folder of its own. The same command again goes on where
    it was stopped, and with more minutes it adds to the report.
    """

    ticket: Positional[Path] = Path("network.ticket")
    """The ticket file."""

    data: TicketData = None

    model: TicketModel = None

    loss: LossName = None

    minutes: float = 5.0
    """Minutes that all diagnostics may take, those of earlier calls included."""

    seed: int = 0
    """Seed for what the controls draw and for the order of the examples; several draws take the seeds from it on."""

    out: Path | None = None
    """Folder for judge.html, judge.md, judge.json, the figures and the diagnostics; by default one below runs."""

    def __call__(self) -> None:
        """Judge the ticket."""
        device = self.prepare()
        if not self.minutes > 0:
            raise SupermaskError(f"--minutes {self.minutes:g} leaves no time to measure; give a number above 0.")
        if self.minutes > MOST_MINUTES:
            raise SupermaskError(f"--minutes {self.minutes:g} never end; give at most {MOST_MINUTES:,}, a year.")
        context = Context.of(
            self.ticket,
            self.data,
            # the data set may be named by the ticket alone, so that the folder does not name it
            out=self.out or Path("runs", f"judge-{self.ticket.stem}-seed{self.seed}"),
            minutes=self.minutes,
            seed=self.seed,
            device=device,
            data_folder=self.data_folder,
            threads=self.threads,
            model=self.model,
            loss=self.loss,
        )
        with held(make_folder(context.out)):
            examined = examine(context)
            page = write_report(examined, context.out)
        lines = [f"{fact.name}: {fact.mark}{fact.mark and ', '}{fact.text}" for fact in page.summary]
        print("\n".join([page.title, "", *lines, ""]))
        print(f"In {relative(context.out)}: judge.html, judge.md, judge.json, and a folder per diagnostic.")
        if examined.stopped:
            finished = f"{len(examined.found)} diagnostics are finished"
            raise Stopped(f"stopped: {finished} and stand in the report; the same command goes on")
