"""What all diagnostics of a ticket are given: the ticket, the data, where to compute, and how fast that is."""

import math
import shlex
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from supermask.data import DataSet, Examples
from supermask.errors import SupermaskError, TicketError
from supermask.files import relative
from supermask.judge.controls import CONTROLS
from supermask.runs.diagnostics.pace import Pace
from supermask.runs.fit import refuse_unlabelled
from supermask.runs.ticket_model import data_of, named_by
from supermask.runs.ticket_source import TicketSource
from supermask.ticket import Ticket
from supermask.training import Recipe
from supermask.training.batches import Batches, on_device
from supermask.training.losses import named_loss
from supermask.training.objective import Loss

LARGE = 5_000
"""Training examples from which on a batch is of 128; with fewer, 64 leave enough steps to an epoch."""


@dataclass(frozen=True)
class Context:
    """A ticket with its data.

    Attributes:
        filed: the ticket and its file.
        data: the data set, with the validation part of the ticket's own seed.
        seed: of what the controls draw, and of the order of the examples.
        device: where to compute.
        out: folder of the report and of what it is made of.
        minutes: that all diagnostics may take.
        unbuilt: why the network cannot be built; empty where it can.
        loss: name of the loss of trainings; None is the cross entropy, or what the network returns as its own.
        data_folder: of the data sets, as it was given.
        threads: as they were given; 0 is PyTorch's number.
        progress: whether bars are shown where standard error is a terminal.
        pace: how fast the network is here; None until it was measured, and where there is no network.

    """

    filed: TicketSource
    data: DataSet
    seed: int
    device: torch.device
    out: Path
    minutes: float
    unbuilt: str = ""
    loss: str | None = None
    data_folder: Path | None = None
    threads: int = 0
    progress: bool = True
    pace: Pace | None = None

    @classmethod
    def of(
        cls,
        path: Path,
        data: str | None,
        *,
        out: Path,
        minutes: float,
        seed: int = 0,
        device: str = "cpu",
        data_folder: Path | None = None,
        threads: int = 0,
        progress: bool = True,
        model: str | None = None,
        loss: str | None = None,
    ) -> "Context":
        """Read a ticket and its data, and see whether they fit.

        Args:
            path: of the ticket's file.
            data: name of the data set; None is the one that the ticket was found on, if it is of this package.
            out: folder of the report.
            minutes: that all diagnostics may take.
            seed: of what is drawn.
            device: where to compute.
            data_folder: of the data sets.
            threads: for the commands that are shown.
            progress: show bars where standard error is a terminal.
            model: name of the ticket's model, where it is the caller's own code: without it none is imported.
            loss: name of the loss; None is the one that the ticket was found by, if it is of this package.

        Raises:
            SupermaskError: a file cannot be read, the data do not fit the ticket's network, or there is no time.

        """
        if not 0 < minutes < math.inf:
            raise SupermaskError(f"minutes={minutes:g} leave no time to measure anything; give a number above 0.")
        filed = TicketSource.read(path, None, model)
        split = partial(data_of, filed.ticket, path, data, folder=data_folder, validation=None)
        made = cls(filed, split(seed=filed.ticket.seed), seed, torch.device(device), out, minutes)
        refuse_unlabelled(made.data)
        made = replace(made, data_folder=data_folder, threads=threads, progress=progress)
        made = replace(made, loss=named_by(filed.ticket, path, loss))
        try:
            filed.build()
        except TicketError as error:
            return replace(made, unbuilt=str(error).rstrip("."))
        filed.check_fits(made.data, made.minimised)
        return made

    @property
    def ticket(self) -> Ticket:
        """The ticket."""
        return self.filed.ticket

    @property
    def strong(self) -> bool:
        """Whether the ticket's claim is about its network untrained."""
        return not self.ticket.provenance.get("trained", False)

    @property
    def speed(self) -> Pace:
        """How fast the network is.

        Raises:
            SupermaskError: there is none, or it was not measured.

        """
        if self.pace is None:
            raise SupermaskError(f"The pace of {self.filed.path} was not measured; build its network and measure it.")
        return self.pace

    @property
    def minimised(self) -> Loss | None:
        """The loss of trainings, as `train` takes it."""
        return named_loss(self.loss, self.data)

    @property
    def named_loss(self) -> dict[str, str]:
        """What a record says of the loss; nothing where it needs no name."""
        return {} if self.loss is None else {"loss": self.loss}

    @cached_property
    def test(self) -> Examples:
        """The test examples on the device, read once."""
        return on_device(self.data.test(), self.device)

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of the ticket's file, and of that of its scores where there is one."""
        return self.filed.digests(CONTROLS["inverted"])

    @property
    def example(self) -> Tensor:
        """Two images as the network takes them, float32 (2, C, H, W) on the CPU."""
        return self.data.normalize(self.data.train.images[:2])

    def network(self, ticket: Ticket | None = None) -> nn.Module:
        """Return the network of the ticket, or of a control of it, on the device, in evaluation mode."""
        return (ticket or self.ticket).apply(self.filed.build()).to(self.device).eval()

    def recipe(self, steps: int) -> Recipe:
        """Return the recipe of trainings of so many optimizer steps, which look at the validation part on the way."""
        size = min(128 if len(self.data.train) >= LARGE else 64, len(self.data.train))
        # a warm-up, because networks without normalisation may diverge at the full rate
        return Recipe(
            iterations=steps, batch_size=size, warm_up=0.1, best="auto", evaluate_every=max(1, steps // EVALUATIONS)
        )

    def batches(self) -> Batches:
        """Return the training batches of that recipe."""
        return Batches(self.data, self.recipe(1), seed=self.seed, device=self.device)

    @property
    def inspect(self) -> str:
        """The command that shows what the file holds."""
        return shlex.join(["supermask", "inspect", str(self.filed.path)])

    @property
    def again(self) -> str:
        """The command that makes the report."""
        words = ["--minutes", f"{self.minutes:g}", "--seed", str(self.seed), "--out", relative(self.out)]
        return self.command("judge", *words)

    @property
    def narrowed(self) -> str:
        """The command that removes the dead units and says how many there are."""
        words = ["supermask", "export", str(self.filed.path), "--format", "torch_export", "--narrow"]
        return shlex.join([*words, *self._model])

    def command(self, verb: str, *options: str, before: str = "") -> str:
        """Return a command line about the ticket on its data.

        Args:
            verb: the command.
            *options: more words of it.
            before: the option that takes the file; empty where it stands by itself.

        """
        words = ["supermask", verb, *([before] if before else []), str(self.filed.path), "--data", self.data.name]
        words += [*self._model, *(["--loss", self.loss] if self.loss else []), *options, "--device", str(self.device)]
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--data-folder", str(self.data_folder)] if self.data_folder else []
        return shlex.join(words)

    @property
    def _model(self) -> list[str]:
        return ["--model", self.filed.model] if self.filed.model else []


EVALUATIONS = 3
"""Looks at the validation part in a training, besides the one at its start."""
