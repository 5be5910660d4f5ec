"""Carrying out a job."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from supermask import data, models
from supermask.baselines.method import MethodResult, RunContext
from supermask.data import DataSet
from supermask.errors import SupermaskError, first_line
from supermask.files import locked, tensor_bytes, write_whole
from supermask.runs.fit import described_inputs, example_of, misfit
from supermask.runs.folder import STAGES, recorded
from supermask.runs.job import Job
from supermask.runs.proof import proof_of
from supermask.runs.result import JobResult
from supermask.ticket import Ticket
from supermask.training import Listener, Outcome, Recipe, Subject, train
from supermask.training.losses import named_loss
from supermask.training.metrics import write_metrics
from supermask.training.one_generator import own_random_state
from supermask.training.processes import ALONE, Processes, joined, own_device
from supermask.training.result import measured

TICKET, SCORES = "network.ticket", "scores.safetensors"


@runtime_checkable
class Ticketed(Protocol):
    """A subject whose network is one of a seed and masks."""

    def ticket(self, **provenance: Any) -> Ticket:
        """Return the ticket of the present masks."""


def run(
    job: Job,
    path: str | Path,
    *,
    device: str = "cpu",
    data_folder: Path | None = None,
    resume: bool = False,
    stages: Path | None = None,
    telemetry: bool = False,
    on_evaluation: Listener | Iterable[Listener] = (),
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> JobResult:
    """Carry out a job in a folder and return its result; a finished run is read, not repeated.

    Several processes carry it out together, as `supermask.training.train` says; the first one writes the files.

    The folder takes config.json, metrics.jsonl (one record per evaluation), result.json, and what the method leaves:
    the ticket, the scores that chose its mask, and network.safetensors where weights were trained.

    Args:
        job: what to do.
        path: the folder of the run.
        device: where to train.
        data_folder: where the data sets lie; None is what `supermask.data.load` says.
        resume: go on from the checkpoint of an unfinished run.
        stages: a folder for trainings that jobs of other densities or options have in common, e.g. the rounds of
            iterative pruning; it stays. None keeps them in the run's folder until it is finished.
        telemetry: record at every evaluation how far the weights have moved.
        on_evaluation: functions that are told of each evaluation, of every training that the job takes.
        checkpoint_seconds: time between checkpoints.
        progress: show a progress bar where standard error is a terminal.

    Raises:
        SupermaskError: the job does not make sense, data are missing, the training diverged, or the folder holds
            another run.

    """
    job, own = job.settled(), own_device(device)
    with joined(own) as processes:
        data_set = processes.led(lambda: load_data(job, data_folder))
        check_network(job, data_set)

        def measure(folder: Path) -> JobResult:
            context = context_of(
                job,
                data_set,
                folder,
                stages or folder / STAGES,
                device=own,
                resume=resume,
                telemetry=telemetry,
                on_evaluation=on_evaluation,
                checkpoint_seconds=checkpoint_seconds,
                progress=progress,
                processes=processes,
            )
            found = context.carry_out(job.algorithm)
            kept = processes.once(lambda: _keep(found, folder, job, data_set, device=own, clear=stages is None))
            return JobResult(**measured(found.outcome), **kept, details=found.details)

        return recorded(JobResult, path, job.config(), measure, device=str(own), resume=resume, processes=processes)


def context_of(
    job: Job,
    data_set: DataSet,
    folder: Path,
    stages: Path,
    *,
    device: torch.device,
    resume: bool = True,
    telemetry: bool = False,
    on_evaluation: Listener | Iterable[Listener] = (),
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
    processes: Processes = ALONE,
    extended: bool = True,
) -> RunContext:
    """Return what a settled job works with: its network, its data, and a loop that remembers stages.

    Args:
        job: settled.
        data_set: its data, or other data that its network takes.
        folder: of the run.
        stages: folder of the trainings that others follow, which several runs may share.
        device: where to compute.
        resume: go on from the folder's checkpoint.
        telemetry: record at every evaluation how far the weights have moved.
        on_evaluation: functions that are told of each evaluation, of every training that the job takes.
        checkpoint_seconds: time between checkpoints.
        progress: show a progress bar where standard error is a terminal.
        processes: that train together.
        extended: whether trainings also score the best step on training examples, up to 10,000 of them.

    """

    def loop(subject: Subject, recipe: Recipe, **more: Any) -> Outcome:
        # runs that share a stage may go on at once: the first trains it
        shared = more["folder"] if more["folder"] != folder and processes.leads else None
        more |= {"telemetry": telemetry, "extended": extended, "on_evaluation": on_evaluation}
        more |= {"checkpoint_seconds": checkpoint_seconds, "progress": progress}
        with nullcontext() if shared is None else locked(shared):
            return train(subject, data_set, recipe, device=device, **more)

    steps = job.training.steps(len(data_set.train))
    return RunContext(
        data=data_set,
        recipe=job.training,
        search_recipe=job.search_recipe,
        seed=job.seed,
        order=job.order,
        density=job.search.density,
        device=device,
        build=lambda: build_network(job, data_set),
        loop=loop,
        folder=folder,
        stages=stages / _stages_of(job),
        resume=resume,
        weights=job.initial,
        include=job.search.include,
        dense=job.search.dense,
        loss=named_loss(job.loss, data_set),
        start_search=lambda rule: job.search.start(
            rule, build_network(job, data_set), job.seed, job.training, steps, job.given
        ),
    )


def _stages_of(job: Job) -> str:
    """Return a folder name that two jobs have in common if they differ in what no stage depends on."""
    config = replace(job, options=job.algorithm.shared(), search=replace(job.search, density=1.0)).config()
    # sorted, so that the order of the options does not count; 12 digits are 48 bits, enough for a folder's jobs
    return f"{job.method}-{hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]}"


def load_data(job: Job, data_folder: Path | None) -> DataSet:
    """Return the job's data set, split by its seed."""
    return data.load(job.data, folder=data_folder, validation=job.validation, seed=job.split)


def build_network(job: Job, data_set: DataSet) -> nn.Module:
    """Return the job's model, freshly built for the data set's inputs.

    Raises:
        SupermaskError: there is no such model.

    """
    with own_random_state():
        torch.manual_seed(job.seed)  # for the few parameters that no policy redraws
        return models.make(job.model, **_sizes(job, data_set))


def _sizes(job: Job, data_set: DataSet) -> dict[str, Any]:
    """Return what the job's model is made from, as `supermask.models.make` takes it."""
    tokens = {} if data_set.vocabulary is None else {"vocabulary": data_set.vocabulary}
    return {"input_shape": data_set.input_shape, "classes": data_set.outputs, "width": job.width, **tokens}


@torch.no_grad()
def check_network(job: Job, data_set: DataSet) -> None:
    """Try the job's model and its loss on two examples of the data set.

    Raises:
        SupermaskError: there is no such model, it does not take such inputs, or the targets do not tell which loss
            is meant.

    """
    model, batch = build_network(job, data_set).eval(), example_of(data_set)
    try:
        outputs = model(batch.inputs)
    except Exception as error:
        inputs = described_inputs(data_set)
        raise SupermaskError(f"{job.model} does not take the {inputs} of {job.data}: {first_line(error)}.") from None
    if wrong := misfit(outputs, batch, data_set, named_loss(job.loss, data_set)):
        raise SupermaskError(f"{job.model} {wrong}.")


def _keep(
    found: MethodResult, folder: Path, job: Job, data_set: DataSet, *, device: torch.device, clear: bool
) -> dict[str, Any]:
    """Write what was found; return the network's file, its counts of weights and its proof, by fields of a result.

    With `clear` the trainings that led to it are dropped.
    """
    subject, counts, strong = found.subject, dict[str, Any](), False
    write_metrics(folder / "metrics.jsonl", found.outcome.history)  # of the last training, which may be a stage
    if isinstance(subject, Ticketed):
        ticket = subject.ticket(**_provenance(job, data_set, found.outcome))
        ticket.save(folder / TICKET)
        counts |= {"kept": ticket.kept, "prunable": ticket.prunable}
        strong = not ticket.provenance.get("trained", False)
        if strong and job.loss is None:
            counts["proof"] = proof_of(ticket, build_network(job, data_set), data_set, device)
    if found.scores is not None:
        _save_tensors(folder / SCORES, found.scores)
    path = folder / TICKET
    if not strong:  # the ticket is not all of the network
        path = folder / "network.safetensors"
        _save_tensors(path, subject.model.state_dict())
    if not counts:
        count = sum(parameter.numel() for parameter in subject.model.parameters())
        counts = {"kept": count, "prunable": count}
    if found.file is not None:
        path = folder / found.file
    if clear:
        shutil.rmtree(folder / STAGES, ignore_errors=True)
    return {**counts, "bytes": path.stat().st_size, "file": path.name}


def _provenance(job: Job, data_set: DataSet, outcome: Outcome) -> dict[str, Any]:
    sizes = {**_sizes(job, data_set), "input_shape": list(data_set.input_shape)}
    return {
        "algorithm": job.method,
        "model": {"name": job.model, **sizes},
        "data": job.data,
        **({} if job.loss is None else {"loss": job.loss}),
        "recipe": job.config()["recipe"],
        "metrics": {"best_step": outcome.best_step, **_tested(outcome)},
    }


def _tested(outcome: Outcome) -> dict[str, float]:
    if outcome.test.correct is None:  # an accuracy of NaN is none of JSON
        return {"test_loss": outcome.test.loss}
    return {"test_accuracy": outcome.test.accuracy}


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    write_whole(path, tensor_bytes(tensors))
