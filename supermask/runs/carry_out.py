"""Carrying out a job."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from supermask import data, models
from supermask.data import DataSet
from supermask.errors import SupermaskError
from supermask.files import write_whole
from supermask.runs.folder import Result, recorded
from supermask.runs.job import Job
from supermask.search import EdgePopup
from supermask.training import Outcome, Subject, train
from supermask.training.processes import joined, own_device


def run(
    job: Job,
    path: str | Path,
    *,
    device: str = "cpu",
    data_folder: Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> Result:
    """Carry out a job in a folder and return its result as plain values; a finished run is read, not repeated.

    Several processes carry it out together, as `supermask.training.train` says; the first one writes the files.

    The folder takes config.json, metrics.jsonl (one record per evaluation), network.ticket and scores.safetensors of a
    search or network.safetensors of a dense network, and result.json.

    Args:
        job: what to do.
        path: the folder of the run.
        device: where to train.
        data_folder: where the data sets lie; None is what `supermask.data.load` says.
        resume: go on from the checkpoint of an unfinished run.
        checkpoint_seconds: time between checkpoints.
        progress: show a progress bar where standard error is a terminal.

    Raises:
        SupermaskError: the job does not make sense, data are missing, the training diverged, or the folder holds
            another run.

    """
    own = own_device(device)
    with joined(own) as processes:
        data_set = processes.led(lambda: load_data(job, data_folder))
        subject = job.start(build_network(job, data_set))

        def measure(folder: Path) -> Result:
            outcome = train(
                subject,
                data_set,
                job.training,
                seed=job.seed,
                device=own,
                folder=folder,
                resume=resume,
                checkpoint_seconds=checkpoint_seconds,
                progress=progress,
            )
            kept = processes.once(lambda: _keep(subject, folder, job, data_set, outcome))
            return {**_measured(outcome), **kept}

        return recorded(path, job.config(), measure, device=str(own), resume=resume, processes=processes)


def load_data(job: Job, data_folder: Path | None) -> DataSet:
    """Return the job's data set, split by its seed."""
    return data.load(job.data, folder=data_folder, validation=job.validation, seed=job.seed)


def build_network(job: Job, data_set: DataSet) -> nn.Module:
    """Return the job's model, freshly built for the data set's images, after a trial of it on two of them.

    Raises:
        SupermaskError: there is no such model, or it does not take such images.

    """
    shape = None if job.model.startswith("torchvision:") else data_set.input_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)  # for the few parameters that no policy redraws
        model = models.build(job.model, input_shape=shape, classes=data_set.classes, width=job.width)
        _try(model, job, data_set)
    return model


@torch.no_grad()
def _try(model: nn.Module, job: Job, data_set: DataSet) -> None:
    model.eval()
    try:
        logits = model(data_set.normalize(data_set.train.images[:2]))
    except Exception as error:
        shape = "x".join(map(str, data_set.input_shape))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SupermaskError(f"{job.model} does not take the {shape} images of {job.data}: {reason}.") from None
    model.train()
    if logits.shape[1:] != (data_set.classes,):
        raise SupermaskError(f"{job.model} gives {tuple(logits.shape[1:])} logits for {data_set.classes} classes.")


def _measured(outcome: Outcome) -> Result:
    return {
        "validation": {**asdict(outcome.validation), "accuracy": outcome.validation.accuracy},
        "test": {**asdict(outcome.test), "accuracy": outcome.test.accuracy},
        "best_step": outcome.best_step,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 3),
        "history": outcome.history,
    }


def _keep(subject: Subject, folder: Path, job: Job, data_set: DataSet, outcome: Outcome) -> Result:
    """Write the network's file; return its size and its counts of weights."""
    if isinstance(subject, EdgePopup):
        ticket = subject.ticket(
            model={
                "name": job.model,
                "input_shape": list(data_set.input_shape),
                "classes": data_set.classes,
                "width": job.width,
            },
            data=job.data,
            recipe=job.config()["recipe"],
            metrics={"best_step": outcome.best_step, "test_accuracy": outcome.test.accuracy},
        )
        path = folder / "network.ticket"
        ticket.save(path)
        _save_tensors(folder / "scores.safetensors", subject.scores())
        counts = {"kept": ticket.kept, "prunable": ticket.prunable}
    else:
        path = folder / "network.safetensors"
        _save_tensors(path, subject.model.state_dict())
        count = sum(parameter.numel() for parameter in subject.model.parameters())
        counts = {"kept": count, "prunable": count}
    return {**counts, "bytes": path.stat().st_size, "file": path.name}


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # copies, because safetensors refuses tensors that share memory
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(path, safetensors.torch.save(copies))
