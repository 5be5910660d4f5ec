"""A ticket as it lies on the disk, with the scores beside it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from supermask import models
from supermask.data import DataSet
from supermask.errors import TicketError
from supermask.judge.control import Control
from supermask.runs.run_job import SCORES
from supermask.runs.ticket_model import Described, built_from, check_takes, described, refuse_unasked
from supermask.ticket import Ticket
from supermask.training.objective import Loss


@dataclass(frozen=True)
class TicketSource:
    """A ticket and the file that it was read from.

    Attributes:
        path: of the ticket's file.
        ticket: as read.
        scores: file of the scores that chose its masks; None where there is none.
        model: that the user named, without which no code is imported for it.

    """

    path: Path
    ticket: Ticket
    scores: Path | None
    model: str | None = None

    @classmethod
    def read(cls, path: Path, scores: Path | None, model: str | None = None) -> "TicketSource":
        """Read a ticket.

        Args:
            path: of its file.
            scores: file of its scores; None is the one beside it, if there is one.
            model: that the user named.

        Raises:
            TicketError: there is no sound ticket, or it is of a model that is code, which the user did not name.

        """
        beside, ticket = path.parent / SCORES, Ticket.load(path)
        if ticket.checkpoint:
            raise TicketError(
                f"{path} is over given weights, of the checkpoint {ticket.checkpoint.title}; judge and controls draw"
                " and train networks from a ticket alone, which takes random weights."
            )
        refuse_unasked(ticket, path, model)
        return cls(path, ticket, scores or (beside if beside.exists() else None), model)

    def build(self, width: float | None = None) -> nn.Module:
        """Return a freshly built model of the ticket's architecture, in its own width or another."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.ticket.seed)  # for the few parameters that nothing redraws
            if width is None or self.widths is None:
                return built_from(self.ticket, self.path, self.model)
            return self.widths.build(width)

    @property
    def widths(self) -> Described | None:
        """The description of the model, if it can be built in other widths."""
        made = described(self.ticket)
        return made if made is not None and made.name in models.known() else None

    def controlled(self, control: Control, seed: int) -> Ticket:
        """Return what a control makes of the ticket.

        Raises:
            TicketError: there are no scores and it needs them, or it did not change what it says.

        """
        return control(self.ticket, seed=seed, scores=self._read_scores() if control.scored else None)

    def digests(self, control: Control | None) -> dict[str, str]:
        """Return the SHA-256 of the files that a control depends on."""
        files = {"ticket": self.path, "scores": self.scores if control is not None and control.scored else None}
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items() if path is not None}

    def check_fits(self, data: DataSet, loss: Loss | None = None) -> None:
        """Refuse a data set of other images or classes than the ticket's network takes, or a loss that does not fit.

        Raises:
            TicketError: it is of others, or the ticket names no network.

        """
        made = self.widths
        there = made and [list(made.input_shape), made.classes]
        here = [list(data.input_shape), data.classes]
        if there is not None and there != here:
            raise TicketError(
                f"The network of {self.path} takes images of {there[0]} in {there[1]} classes; {data.name} has images"
                f" of {here[0]} in {here[1]}."
            )
        # of other networks nobody says what they take
        network = self.ticket.apply(self.build()).eval()
        check_takes(self.ticket, self.path, network, data.normalize(data.train.images[:2]), data, loss)

    def _read_scores(self) -> dict[str, Tensor] | None:
        if self.scores is None:
            return None
        try:
            return safetensors.torch.load_file(self.scores)
        except (OSError, SafetensorError) as error:
            raise TicketError(f"Cannot read the scores {self.scores}: {error}.") from None
