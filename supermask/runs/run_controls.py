"""A ticket and its controls: each is measured untrained, and trained, in a resumable run of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from supermask.baselines.dense import Dense
from supermask.baselines.sparse import Sparse
from supermask.data import DataSet
from supermask.judge.changes import changed
from supermask.judge.controls import CONTROLS, named_control
from supermask.judge.result import ControlResult, UntrainedScores
from supermask.judge.small_dense import width_of
from supermask.runs.fit import refuse_unlabelled
from supermask.runs.folder import RunFolder, recorded
from supermask.runs.run_job import TICKET
from supermask.runs.ticket_model import data_of, named_by
from supermask.runs.ticket_source import TicketSource
from supermask.ticket import Ticket
from supermask.training import Outcome, Recipe, Stopped, Subject, train
from supermask.training.losses import named_loss
from supermask.training.processes import Processes, joined, own_device
from supermask.training.result import Scored, measured

ITSELF, DENSE, SMALL_DENSE = "ticket", "dense", "small_dense"


def run_controls(
    ticket: str | Path,
    *,
    out: str | Path,
    recipe: Recipe,
    seed: int = 0,
    scores: str | Path | None = None,
    controls: Sequence[str] | None = None,
    data: str | None = None,
    model: str | None = None,
    loss: str | None = None,
    validation: int | None = None,
    device: str = "cpu",
    data_folder: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> dict[str, ControlResult]:
    """Measure a ticket, its controls, the dense network and a dense one of the ticket's size.

    Each is measured twice: with nothing trained but the statistics of batch norm, which are estimated again, and after
    the weights that it keeps (with biases and normalisation layers) were trained with the recipe. The test set is read
    once for each of the two; nothing is chosen by it. The dense networks start as the ticket does: from its seed, with
    the distribution of its weights. What is finished is read from its folder and not repeated; the same call goes on
    where one was stopped.

    Args:
        ticket: the file of the ticket, which names its model.
        out: takes a folder per network and seed.
        recipe: that all of them are trained with.
        seed: of what the controls draw, and of the order of the examples. The validation examples are held out by the
            ticket's own seed: those that a search of this package went without.
        scores: the file of the scores that chose the masks; None is the one beside the ticket, where there is one.
        controls: names in `supermask.judge.CONTROLS`; None are all, but those that need scores where there are none.
        data: name of the data set; None is the one that the ticket was found on, if it is of this package.
        model: name of the ticket's model, where it is the caller's own code: without it none is imported.
        loss: name of the loss that all are trained by; None is the one that the ticket was found by, if it is of this
            package.
        validation: examples held out of the training set; None is the data set's usual number.
        device: where to train.
        data_folder: where the data sets lie.
        checkpoint_seconds: time between checkpoints.
        progress: show progress bars where standard error is a terminal.

    Returns:
        A result for "ticket", for each control, for "dense" and for "small_dense" (if the network can be built in
        other widths).

    Raises:
        SupermaskError: a file cannot be read, a control is unknown or did not change what it says, the data do not fit
            the network, a training diverged, or a folder holds another run.
        Stopped: a signal asked for it; the checkpoint was written.

    """
    own = own_device(device)
    with joined(own) as processes:
        filed = TicketSource.read(Path(ticket), None if scores is None else Path(scores), model)
        split = partial(data_of, folder=data_folder, validation=validation, seed=filed.ticket.seed)
        data_set = processes.led(lambda: split(filed.ticket, filed.path, data))
        refuse_unlabelled(data_set)
        chosen = named_by(filed.ticket, filed.path, loss)
        filed.check_fits(data_set, named_loss(chosen, data_set))
        runs = _Runs(filed, data_set, chosen, recipe, seed, own, Path(out), checkpoint_seconds, progress, processes)
        return runs.all(_names(filed, controls))


def _names(filed: TicketSource, controls: Sequence[str] | None) -> list[str]:
    """Return the names of all that is measured, in the order of the table."""
    if controls is None:
        controls = [name for name, control in CONTROLS.items() if filed.scores is not None or not control.scored]
    named = [named_control(name).name for name in dict.fromkeys(controls)]
    return [ITSELF, *named, DENSE, *([] if filed.widths is None else [SMALL_DENSE])]


@dataclass(frozen=True)
class _Network:
    """A network to measure: how it starts, and facts about it, by fields of `ControlResult`."""

    start: Callable[[], Sparse | Dense]
    facts: Mapping[str, Any]
    ticket: Ticket | None = None


@dataclass(frozen=True)
class _Runs:
    """The runs of one ticket and one seed."""

    filed: TicketSource
    data: DataSet
    loss: str | None
    recipe: Recipe
    seed: int
    device: torch.device
    out: Path
    checkpoint_seconds: float
    progress: bool
    processes: Processes

    def all(self, names: Sequence[str]) -> dict[str, ControlResult]:
        """Carry out what is not finished, and return all results by name."""
        left = {name for name in names if not RunFolder(self._folder(name)).finished}
        shown = None if self.progress and self.processes.leads else True  # None: where standard error is no terminal
        results: dict[str, ControlResult] = {}
        with tqdm(total=len(left), desc="controls", unit="run", disable=shown, leave=False, dynamic_ncols=True) as bar:
            for name in names:
                bar.set_postfix_str(name)
                results[name] = self._one(name)
                bar.update(name in left)
        return results

    def _folder(self, name: str) -> Path:
        return self.out / f"{name}-seed{self.seed}"

    def _one(self, name: str) -> ControlResult:
        measure = self._measure
        try:
            return recorded(
                ControlResult,
                self._folder(name),
                self._config(name),
                lambda folder: measure(name, folder),
                device=str(self.device),
                resume=True,
                processes=self.processes,
            )
        except Stopped as stop:
            raise Stopped(f"{name} {stop}; the same call goes on") from None

    def _config(self, name: str) -> dict[str, Any]:
        """Return all that a run depends on, as it comes back from JSON."""
        return {
            "control": name,
            **self.filed.digests(CONTROLS.get(name)),
            "data": self.data.name,
            "validation": len(self.data.validation),
            "seed": self.seed,
            "recipe": self.recipe.recorded(),
            **({} if self.loss is None else {"loss": self.loss}),
        }

    def _measure(self, name: str, folder: Path) -> ControlResult:
        network = self._network(name)
        # iterations too, because they override the epochs where they are given
        untrained = self._train(network.start(), replace(self.recipe, epochs=0, iterations=None))
        # a second network, so that nothing of the first measurement is left in it
        subject = network.start()
        trained = self._train(subject, self.recipe, folder=folder, resume=True, title=name, progress=self.progress)
        if (ticket := network.ticket) is not None:
            self.processes.once(lambda: ticket.save(folder / TICKET))
        return ControlResult(
            **measured(trained),
            untrained=UntrainedScores(Scored.of(untrained.validation), Scored.of(untrained.test)),
            strong=not self.filed.ticket.provenance.get("trained", False),
            parameters=subject.count,
            **network.facts,
        )

    def _train(self, subject: Subject, recipe: Recipe, **more: Any) -> Outcome:
        more = {"checkpoint_seconds": self.checkpoint_seconds, "progress": False, **more}
        loss = named_loss(self.loss, self.data)
        return train(subject, self.data, recipe, seed=self.seed, loss=loss, device=self.device, **more)

    def _network(self, name: str) -> _Network:
        if name == DENSE:
            return _Network(self._dense, {})
        if name == SMALL_DENSE:
            return self._small_dense()
        if name == ITSELF:
            return self._sparse(self.filed.ticket, {})
        made = self.filed.controlled(CONTROLS[name], self.seed)
        how = changed(self.filed.ticket, made)
        origin = {key: value for key, value in made.provenance.items() if key != "metrics"}  # they are the ticket's
        made = replace(made, provenance={**origin, "control": {"name": name, "seed": self.seed}})
        return self._sparse(made, {"moved": dict(how.moved), "reweighted": how.weights})

    def _sparse(self, ticket: Ticket, facts: Mapping[str, Any]) -> _Network:
        counts = {"kept": ticket.kept, "prunable": ticket.prunable}
        return _Network(lambda: Sparse(self.filed.build(), ticket), {**counts, **facts}, ticket)

    def _dense(self, width: float | None = None) -> Dense:
        ticket = self.filed.ticket
        first = next(iter(ticket.masks or ticket.weights))  # a search draws all layers from one distribution
        return Dense(self.filed.build(width), seed=ticket.seed, weights=ticket.weights[first].distribution)

    def _small_dense(self) -> _Network:
        made = self.filed.widths
        assert made is not None
        width, _ = width_of(made._asdict(), Sparse(self.filed.build(), self.filed.ticket).count)
        return _Network(lambda: self._dense(width), {"width": width})
