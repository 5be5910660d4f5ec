"""`supermask search` and `supermask train`: one run."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from supermask.cli.logs import Logs, listeners
from supermask.cli.method_options import SearchMethodOptions, SearchName, default_search_options, options_of
from supermask.cli.options import DIGITS, Common, DataName, LossName, ModelName, Setting
from supermask.errors import SupermaskError
from supermask.files import relative
from supermask.report import plot_accuracy_over_steps, plot_loss_over_steps, plot_telemetry, table
from supermask.runs import Job, JobResult, SearchOptions, run
from supermask.runs.measures import by_loss, score_rows
from supermask.runs.methods import named_method
from supermask.search.algorithm import Algorithm
from supermask.search.coded import CodedRule
from supermask.training import Recipe, Stopped
from supermask.training.processes import joined


@dataclass(frozen=True)
class Single(Common):
    """A run of one method."""

    model: ModelName = "lenet_300_100"

    width: float = 1.0
    """Factor on the hidden widths of the network."""

    data: DataName = "digits"

    loss: LossName = None

    validation: int | None = None
    """Examples held out to choose the best step; by default what is usual for the data."""

    split_seed: int | None = None
    """Seed of the validation split, if not --seed."""

    order_seed: int | None = None
    """Seed of the noise of SGD (order, augmentation, dropout), if not --seed."""

    setting: Setting = "short"

    recipe: OmitArgPrefixes[Recipe] = field(default_factory=lambda: DIGITS)

    out: Annotated[Path | None, arg(metavar="PATH")] = None
    """Folder for the run: settings, metrics, plot, result and network; by default one below runs."""

    telemetry: bool = False
    """Record at every evaluation how far the weights, or the scores of a search, have moved, and draw it."""

    log: Logs = ()

    resume: bool = False
    """Go on with the unfinished run in the folder."""

    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints; one is written on Ctrl-C too."""

    def carry_out(
        self,
        command: str,
        method: str,
        search: SearchOptions,
        options: Algorithm | None = None,
        given: Path | None = None,
    ) -> None:
        """Run one job and show its result."""
        device = self.prepare()
        job = Job(
            method=method,
            model=self.model,
            width=self.width,
            data=self.data,
            validation=self.validation,
            seed=self.seed,
            split_seed=self.split_seed,
            order_seed=self.order_seed,
            recipe=self.recipe,
            search=search,
            options=options,
            setting=self.setting,
            given=None if given is None else str(given),
            loss=self.loss,
        )
        out = self.out or Path("runs", f"{command}-{job.slug}-{job.slug_of_seeds}")
        with joined(device) as processes:
            result = self._run(job, out, device)
            processes.once(lambda: self._show(job, result, out))

    def _run(self, job: Job, out: Path, device: str) -> JobResult:
        try:
            return run(
                job,
                out,
                device=device,
                data_folder=self.data_folder,
                resume=self.resume,
                telemetry=self.telemetry,
                on_evaluation=listeners(self.log, job, out),
                checkpoint_seconds=self.checkpoint_seconds,
            )
        except Stopped as stop:
            raise Stopped(f"{stop}; the same command with --resume goes on") from None

    def _show(self, job: Job, result: JobResult, out: Path) -> None:
        if by_loss(job.data, [result.test]):
            drawn = "loss.png"
            plot_loss_over_steps({job.method: [result]}, out / drawn, f"{self.model} on {self.data}")
        else:
            drawn = "accuracy.png"
            plot_accuracy_over_steps({job.method: [result]}, out / drawn, f"{self.model} on {self.data}")
        if self.telemetry:
            drawn += ", telemetry.png"
            plot_telemetry(result.history, out / "telemetry.png", f"{job.method}, {self.model} on {self.data}")
        print(summary(job, result))
        print(f"Trained with {job.describe_training()}.")
        print(f"In {relative(out)}: {result.file}, result.json, metrics.jsonl, {drawn}")


@dataclass(frozen=True)
class Search(Single):
    """Find a supermask: train scores over frozen random weights, by edge-popup or another search; keep the ticket."""

    method: SearchName = "edge_popup"

    bytes: Annotated[int | None, arg(metavar="N", help="Of the ticket's file, for --method coded.")] = None

    given: Annotated[Path | None, arg(metavar="FILE")] = None
    """Checkpoint (safetensors or torch.save) whose weights are masked; what --learned names may be missing."""

    search: OmitArgPrefixes[SearchOptions] = field(default_factory=SearchOptions)

    options: SearchMethodOptions = field(default_factory=default_search_options)

    def __call__(self) -> None:
        """Run the search."""
        if named_method(self.method).rule is None:
            raise SupermaskError(f"--method {self.method} is not a search; supermask compare --methods runs it.")
        options = options_of([self.method], self.options).get(self.method)
        if self.bytes is not None:
            if not isinstance(options, CodedRule):
                raise SupermaskError(f"--bytes {self.bytes} is for --method coded; {self.method} takes --density.")
            options = replace(options, bytes=self.bytes)
        command = "search" if self.method == "edge_popup" else self.method
        search = self.search
        if self.given is not None and search.weights is None:
            search = replace(search, weights="given")
        self.carry_out(command, self.method, search, options, self.given)


@dataclass(frozen=True)
class Train(Single):
    """Train the dense baseline: the same network, loop and data, with all weights trained."""

    def __call__(self) -> None:
        """Run the training."""
        self.carry_out("train", "dense", SearchOptions())


def summary(job: Job, result: JobResult) -> str:
    """Return the result of one run as a table."""
    rows = [
        ["method", job.method],
        *score_rows(result.test, job.data, "test"),
        *score_rows(result.validation, job.data, "validation"),
        ["best step", f"{result.best_step:,} of {result.steps:,}"],
        ["weights kept", f"{result.kept:,} of {result.prunable:,} ({result.density:.2%})"],
        ["bytes of the network", f"{result.bytes:,}"],
        ["seconds", f"{result.seconds:.1f}"],
    ]
    return table([f"{job.model} on {job.data}", job.describe_seeds()], rows)
