"""Who is told of the evaluations of a training: TensorBoard, Weights & Biases, or functions of one's own."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from supermask.errors import RunError, SupermaskError, first_line
from supermask.files import make_folder, write_whole
from supermask.training.processes import Processes
from supermask.training.subject import Subject

Listener = Callable[[Mapping[str, Any], Subject], None]
"""Is called with the record of an evaluation, as metrics.jsonl has it, and with the subject, whose model is as it was
evaluated, with statistics of batch norm estimated again, but in training mode.

The record maps "step" to an int, the optimizer steps so far; "train_loss", "validation_loss" and "learning_rate" to
floats; "validation_accuracy" to a float from 0 to 1, or to None where predictions are not classes; and "telemetry",
where it was asked for, to a mapping of such values. It is a copy. The subject is to be looked at and not changed.
"""


class Told:
    """Those who are told of evaluations.

    Args:
        listeners: one, or several, which are called in their order.
        device: of the training, whose random numbers go on as if no listener had drawn any.
        processes: that train together; the listeners of the first one are called.

    """

    def __init__(self, listeners: Listener | Iterable[Listener], device: torch.device, processes: Processes) -> None:
        self._listeners = [listeners] if callable(listeners) else [*listeners]
        self._devices = [device] if device.type == "cuda" else []
        self._processes = processes

    def tell(self, record: Mapping[str, Any], subject: Subject) -> None:
        """Call the listeners.

        Raises:
            RunError: on the other processes, where a listener of the first one raised; that one raises what it raised.

        """
        raised = self._call(record, subject) if self._processes.leads else None
        told = self._processes.once(lambda: None if raised is None else first_line(raised))
        if raised is not None:
            raise raised
        if told:
            raise RunError(f"A function that process 0 tells of evaluations ended the training: {told}.")

    def _call(self, record: Mapping[str, Any], subject: Subject) -> Exception | None:
        with torch.random.fork_rng(devices=self._devices):
            for listener in self._listeners:
                try:
                    listener(deepcopy(record), subject)
                except Exception as error:  # whatever it is, the other processes must not wait for this one
                    return error
        return None


class TensorBoard:
    """Writes the numbers of each evaluation for TensorBoard.

    A training that goes on after it was stopped writes on in the same folder, and replaces what it tells again.

    Args:
        folder: of the event files.

    Raises:
        SupermaskError: the package tensorboard is not installed.

    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SupermaskError(_needs("TensorBoard", "tensorboard", error)) from None
        self._start = lambda step: SummaryWriter(str(folder), purge_step=step)
        self._writer: SummaryWriter | None = None

    def __call__(self, record: Mapping[str, Any], subject: Subject) -> None:
        """Write a record at its step."""
        # not before: a writer makes its file at once, on every process, and has to know what it replaces
        self._writer = self._writer or self._start(record["step"])
        for name, value in numbers(record):
            self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()  # so that a run can be watched, and one that is killed loses nothing


class WeightsAndBiases:
    """Logs the numbers of each evaluation to a run of Weights & Biases.

    A training that goes on after it was stopped goes on in the same run; one that is told of step 0 begins a run.

    Args:
        folder: of the training, which remembers the run, and takes wandb's own files; it is made if need be.
        **settings: of `wandb.init`, which is called at the first record: project, name, config, ...

    Raises:
        SupermaskError: the package wandb is not installed.

    """

    def __init__(self, folder: str | Path, **settings: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise SupermaskError(_needs("Weights & Biases", "wandb", error)) from None
        self._start = lambda name: wandb.init(dir=str(folder), id=name, resume="allow", **settings)
        self._file = Path(folder, "wandb_run")
        self._run: Any = None

    def __call__(self, record: Mapping[str, Any], subject: Subject) -> None:
        """Log a record at its step."""
        self._run = self._run or self._start(self._name(begins=record["step"] == 0))
        self._run.log(dict(numbers(record)), step=record["step"])

    def _name(self, *, begins: bool) -> str:
        """Return the name by which wandb knows the run: that of the folder, or a new one."""
        if begins or not self._file.exists():
            make_folder(self._file.parent)
            write_whole(self._file, uuid4().hex.encode())
        return self._file.read_text()


def numbers(record: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record but its step, those of records within it as outer/inner."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{within}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
            yield f"{within}{name}", float(value)


def _needs(what: str, package: str, error: ImportError) -> str:
    return f"{what} needs the package {package} ({first_line(error)}); install it: python -m pip install {package}."
