"""The training loop that every algorithm shares."""

import math
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from supermask.data import DataSet, Loaders
from supermask.data.batch import Batch
from supermask.errors import RunError, SupermaskError
from supermask.random.keyed import keyed_bits
from supermask.training.batch_norm import BATCHES, reestimate
from supermask.training.batches import Batches, Source
from supermask.training.checkpoint import check_seconds, load_checkpoint, save_checkpoint
from supermask.training.dropout import dropping
from supermask.training.ending import Ending
from supermask.training.evaluation import Score, evaluate
from supermask.training.graphed import graphed
from supermask.training.interrupts import Pace, Stopped, StopRequest
from supermask.training.layout import sound_layout
from supermask.training.listeners import Listener, Told
from supermask.training.loader_batches import LoaderBatches
from supermask.training.metrics import write_metrics
from supermask.training.objective import Loss, Objective
from supermask.training.one_generator import own_random_state
from supermask.training.processes import Processes, joined, own_device
from supermask.training.recipe import Recipe
from supermask.training.state import Outcome, State
from supermask.training.subject import (
    Advising,
    Estimating,
    Fusing,
    Intervening,
    Subject,
    equal_tensors,
    is_complete,
    refuse_unsuitable,
)
from supermask.training.telemetry import Telemetry

CHECKPOINT = "run.checkpoint"


def train(
    subject: Subject,
    data: DataSet | Loaders | Iterable[Any],
    recipe: Recipe,
    *,
    seed: int,
    loss: Loss | None = None,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    resume: bool = False,
    start: int | State = 0,
    keep: Collection[int] = (),
    telemetry: bool = False,
    extended: bool = False,
    on_evaluation: Listener | Iterable[Listener] = (),
    title: str | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> Outcome:
    """Train a subject, keep the step that does best on the validation split, and test it once.

    Under `torchrun`, or in a process group that is there already, all processes call this with the same arguments and
    train together: every step's batch is that of one process, of which each takes its share, and all of them end with
    the same parameters, masks and outcome. The first one alone writes files and shows a bar. In training, batch norm
    normalises with the statistics of each process's own share, and dropout draws for each process separately.

    Args:
        subject: a search or a baseline over a model that takes the data's inputs.
        data: its training part is trained on, and its validation part chooses the step. Without validation
            examples the last step is taken. `Loaders` have data loaders of the caller's as parts, and a lone one is the
            training part: an epoch is one pass through it, and `batch_size`, `padding` and `flips` of the recipe are
            its own affair.
        recipe: the optimizer, the schedule and the batches; what it leaves open is the subject's to say.
        seed: of the order of the examples, the augmentation and dropout; of data loaders, of what they draw from
            torch's generator.
        loss: a function of what the model returns and the targets, to a scalar, the mean over the batch. None is the
            loss that the outputs have themselves, as those of transformers, or the cross entropy of integer targets.
            Where predictions are not classes there is no accuracy, and the loss chooses the best step.
        device: where to train; the model is moved there. Of several processes each takes "cuda" for a GPU of its own.
        folder: takes metrics.jsonl and the checkpoint; None writes nothing.
        resume: go on from the folder's checkpoint where there is one. On the CPU the end is the same, bit for bit, as
            without the interruption. The number of processes may be another one. The checkpoint keeps the first one's
            dropout; where several go on, the others draw theirs again from (seed, rank, step). With data loaders
            checkpoints are those of the ends of epochs, from which it goes on; the end is the same as far as the
            loaders draw from torch's generators only.
        start: where to begin: an optimizer step of the recipe, for a network that is rewound to it, or the state of
            another training at a step, with its optimizer. The batches and the learning rates are those of the steps
            from there on.
        keep: optimizer steps whose states the outcome keeps, as they are before any statistics are estimated again.
        telemetry: record at every evaluation how far the weights have moved (`supermask.training.telemetry`); each
            record keeps a copy of the weights until the end.
        extended: also score the best step on training examples and the last step on the test set, in the same read of
            it: two evaluations more.
        on_evaluation: a function, or several, called on the first process with the record of each evaluation and the
            subject, once the record was written; `supermask.training.listeners` says what they are. What one raises
            ends the training, and the checkpoint of the steps before stays. A training that goes on from a checkpoint
            does not tell again what was told before it; evaluations after it are told again, at the same steps.
        title: what the progress bar is called; the subject's name by default.
        checkpoint_seconds: time between checkpoints; one is also written on Ctrl-C, on SIGTERM and at the end.
        progress: show a progress bar where standard error is a terminal.

    Raises:
        SupermaskError: `checkpoint_seconds` is out of range, the targets do not tell which loss is meant, the
            recipe does not fit the data, the device, the subject or the number of processes, the training diverged, or
            the subject was at no evaluation what it is to become, e.g. as sparse as was asked, or another thread
            trains: torch's generator is one for all threads.
        RunError: the checkpoint cannot be used, the processes came apart, or another one has ended.
        Stopped: a signal asked for it; the checkpoint was written.

    """
    check_seconds(checkpoint_seconds)
    recipe = subject.recipe(recipe) if isinstance(subject, Advising) else recipe.settle()
    device = own_device(device)
    cuda = [device] if device.type == "cuda" else []
    with (
        joined(device) as processes,
        # the caller's own random numbers go on as if nothing had been drawn here
        own_random_state(cuda),
        StopRequest(forwarded=not processes.alone) as stop,
    ):
        start = start if isinstance(start, State) else State(start)
        data = data if isinstance(data, DataSet | Loaders) else Loaders(data)
        recipe = sound_layout(recipe, subject.model, device)
        objective = Objective(loss)
        told = Told(on_evaluation, device, processes)
        run = _Run(
            subject, data, recipe, seed, device, folder, processes, start, keep, telemetry, extended, objective, told
        )
        if resume:
            run.take_up()
        with dropping(subject.model, recipe.dropout):
            run.advance(stop, checkpoint_seconds, (title or subject.name) if progress else None)
        return run.finish()


class _Run:
    """One training run: its state, and how it is advanced, saved and finished."""

    def __init__(
        self,
        subject: Subject,
        data: DataSet | Loaders,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        folder: Path | None,
        processes: Processes,
        start: State,
        keep: Collection[int],
        telemetry: bool,
        extended: bool,
        objective: Objective,
        told: Told,
    ) -> None:
        refuse_unsuitable(subject, recipe, objective)
        self.objective, self.told, self.data = objective, told, data
        self.subject, self.recipe, self.device, self.folder = subject, recipe, device, folder
        self.seed, self.processes, self.extended = seed, processes, extended
        layout = torch.channels_last if recipe.channels_last else torch.preserve_format
        self.model = subject.model.to(device=device).to(memory_format=layout)
        self.batches: Source
        if isinstance(data, Loaders):
            self.batches = LoaderBatches(data, recipe, device=device, processes=processes)
        else:
            self.batches = Batches(data, recipe, seed=seed, device=device, processes=processes)
        self.steps, self.start, self.keep = self.batches.steps, start.step, {*keep}
        for name, asked in (("start", [start.step]), ("keep", self.keep), ("test_at", recipe.test_at)):
            if wrong := [step for step in asked if not 0 <= step <= self.steps]:
                raise SupermaskError(f"{name}={wrong[0]} is not one of the recipe's {self.steps} steps.")
        # a rewound network has no states from before the step that it begins at
        self.test_at = sorted({step for step in recipe.test_at if step >= start.step})
        self.keep |= {*self.test_at}
        # without steps there may be no parameters to train, which torch's optimizers refuse
        self.forward = processes.parallel(self._compiled()) if self.steps else self.model
        self.optimizer = self._optimizer() if self.steps else None
        self.graphed = graphed(self._whole_step, subject, data, device, processes) if recipe.graph else None
        self.plan = {
            "method": subject.name,
            "data": self.batches.name,
            "seed": seed,
            "start": start.step,
            **asdict(recipe),
        }
        # only where they are asked for, so that checkpoints of before are still taken up
        for name in ("test_at", "graph", "warp"):
            if not self.plan[name]:
                del self.plan[name]
        self.plan |= {"keep": sorted(self.keep)} if keep else {}
        self.plan |= {"telemetry": True} if telemetry else {}
        self.plan |= {"state": start.digest()} if start.subject or start.optimizer else {}
        self._begin(start)
        self.step = start.step
        self.kept: dict[int, State] = {}
        self.telemetry = Telemetry(subject.parameters()) if telemetry else None
        # on the device: reading each loss would make the host wait for the GPU at every step
        self.loss_sum = torch.zeros((), device=device)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.seconds = 0.0
        self.saved = start.step
        self._seed_dropout()

    def _begin(self, start: State) -> None:
        """Take up the tensors of the state to start from."""
        if start.subject is not None:
            self.subject.load_state_dict(deepcopy(dict(start.subject)))
        if start.optimizer is not None and self.optimizer:
            self.optimizer.load_state_dict(deepcopy(dict(start.optimizer)))

    def _compiled(self) -> nn.Module:
        """Return the network as its training steps run it; evaluations run it as it is."""
        return cast(nn.Module, torch.compile(self.model)) if self.recipe.compile else self.model

    def _optimizer(self) -> torch.optim.Optimizer:
        subject = self.subject
        if self.recipe.fused and isinstance(subject, Fusing) and subject.fusible:
            return subject.fused_sgd(**self.recipe.sgd)
        return self.recipe.make_optimizer(subject.parameters())

    def take_up(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.folder is not None and self.processes.once((self.folder / CHECKPOINT).exists):
            self.load(load_checkpoint(self.folder / CHECKPOINT))

    def advance(self, stop: StopRequest, checkpoint_seconds: float, title: str | None) -> None:
        """Run the steps that are left, evaluating and saving on the way."""
        began = saved = time.monotonic()
        before = self.seconds
        pace = Pace(self.processes)
        with self._bar(title) as bar:
            # the start is a candidate for the best step too, and without steps the only one
            if self.step == self.start and not self.history:
                self._keep()
                self._evaluate()
            while self.step < self.steps:
                self._train_step()
                bar.update()
                # before the checkpoint, or a run that goes on from it would miss this evaluation
                if self._evaluation_due():
                    self._evaluate()
                    bar.set_postfix_str(f"validation {self.score.text}")
                self.seconds = before + time.monotonic() - began
                due = time.monotonic() - saved >= checkpoint_seconds and self.batches.resumable()
                stopping, saving = pace.agreed(stop.asked, due)
                if stopping or saving:
                    self.save()
                    saved = time.monotonic()
                if stopping:
                    raise Stopped(f"stopped after step {self.step} of {self.steps}{self._lost()}")
        self.save()

    def _bar(self, title: str | None) -> tqdm:
        return tqdm(
            total=self.steps,
            initial=self.step,
            desc=title,
            unit="step",
            leave=False,
            disable=None if title and self.processes.leads else True,  # None: where standard error is no terminal
            dynamic_ncols=True,
        )

    def finish(self) -> Outcome:
        """Read the test set, score what was asked for, and return to the best step."""
        if not self.best:
            raise SupermaskError(
                f"{self.subject.name} was at none of the evaluations as sparse as was asked; give it more steps."
            )
        if self.telemetry:
            self.telemetry.complete([record["telemetry"] for record in self.history])
            self._write_metrics()
        # a copy, because the best state is loaded into the same tensors
        last = deepcopy(self.subject.state_dict())
        ending = Ending(self.subject, self.batches, self.objective, self.processes)
        tested = {step: ending.test(self.kept[step].whole) for step in self.test_at}
        last_test = ending.test(last) if self.extended and self.best["step"] != self.steps else None
        test = ending.test(self.best["subject"])  # after the others, because the subject is left in this state
        return Outcome(
            best_step=self.best["step"],
            steps=self.steps,
            validation=Score(**self.best["score"]),
            test=test,
            history=self.history,
            seconds=self.seconds,
            last=last,
            kept=self.kept,
            train=ending.train() if self.extended else None,
            last_test=(last_test or test) if self.extended else None,
            tested=tested,
        )

    def save(self) -> None:
        """Write the checkpoint, if there is a folder for it, and a run could go on from here."""
        if self.folder is None or not (self.batches.resumable() or self.step == self.steps):
            return
        self.saved = self.step
        # first, so that processes that came apart do not replace a sound checkpoint
        self._refuse_differences()
        # every process makes the state, which adds up the losses of all; only the first writes it
        path, state = self.folder / CHECKPOINT, self.state()
        self.processes.once(lambda: save_checkpoint(path, state))

    def _lost(self) -> str:
        """Return what a message adds where the last checkpoint is of an earlier step."""
        if self.folder is None or self.saved == self.step:
            return ""
        return f"; it goes on from step {self.saved}, because where a data loader is within an epoch cannot be kept"

    def state(self) -> dict[str, Any]:
        """Return everything that changes."""
        state = {
            "plan": self.plan,
            "data": self.data.fingerprint if isinstance(self.data, DataSet) else "",
            "step": self.step,
            "subject": self.subject.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "loss_sum": torch.tensor(self._loss_sum(), dtype=torch.float32),  # of all, so that any number can go on
            "history": self.history,
            "best": self.best,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
            "kept": {step: vars(kept) for step, kept in self.kept.items()},
            "telemetry": self.telemetry.passed if self.telemetry else None,
            **({"batches": kept} if (kept := self.batches.state()) else {}),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned.

        Raises:
            RunError: it is of a run with another seed, recipe or data.

        """
        if state["plan"] != self.plan:
            raise RunError(f"The checkpoint is of another run ({state['plan']}), not of this one ({self.plan}).")
        # checkpoints of before do not say it, and those over data loaders cannot
        if isinstance(self.data, DataSet) and state.get("data", "") not in ("", self.data.fingerprint):
            raise RunError(
                f"The data {self.data.name} have changed since the checkpoint of this run was written; bring back what"
                " they were to go on, or start again in another folder."
            )
        self.step, self.history, self.best = state["step"], state["history"], state["best"]
        self.subject.load_state_dict(state["subject"])
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
        self.loss_sum = state["loss_sum"].to(self.device)
        self.seconds = state["seconds"]
        self.kept = {step: State(**kept) for step, kept in state.get("kept", {}).items()}
        if self.telemetry:
            self.telemetry.passed = state["telemetry"]
        self.saved = self.step
        self.batches.load(self.step, state.get("batches", {}))
        self._seed_dropout()
        if self.processes.leads:
            self._set_random(state)

    def _set_random(self, state: Mapping[str, Any]) -> None:
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)

    def _seed_dropout(self) -> None:
        """Let each process draw from a stream of its own; the first draws as it would alone."""
        rank = self.processes.rank
        own = int(keyed_bits(self.seed, "process", rank, "from step", self.step).random_raw())
        torch.manual_seed(own if rank else self.seed)

    def _train_step(self) -> None:
        assert self.optimizer is not None
        rate = self.recipe.rate(self.step, self.steps)
        for group in self.optimizer.param_groups:
            # from the step alone, so that there is no scheduler whose state must be saved
            group["lr"] = self.graphed.rate if self.graphed else rate
        batch = self.batches.batch(self.step)
        self.model.train()
        self.loss_sum += self.graphed(batch, rate) if self.graphed else self._whole_step(batch)
        self.step += 1
        self._keep()

    def _whole_step(self, batch: Batch) -> Tensor:
        """Take an optimizer step on a batch; return its loss, times the weight of this process's share."""
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(batch)
        if isinstance(self.subject, Intervening):
            self.subject.before_step(self.optimizer)
        self.optimizer.step()
        self.subject.step()
        return loss

    def _keep(self) -> None:
        """Keep the state of this step, if it was asked for."""
        if self.step in self.keep:
            self.kept[self.step] = State.of(self.step, self.subject, self.optimizer)

    def _gradients(self, batch: Batch) -> Tensor:
        """Fill the gradients of a batch; return its loss, times the weight of this process's share."""
        if isinstance(self.subject, Estimating):
            return self.subject.estimate(*batch, self.processes) * self.batches.weight
        precision = torch.autocast(self.device.type, torch.bfloat16) if self.recipe.bf16 else nullcontext()
        with precision:
            outputs = self.objective.call(self.forward, self.model, batch)
            loss = self.objective.cost(outputs, batch.targets) * self.batches.weight
        loss.backward()
        # detached, or the graphs of all steps would be kept
        return loss.detach()

    def _evaluation_due(self) -> bool:
        every = self.recipe.evaluate_every or self.batches.per_epoch
        return self.step % every == 0 or self.step == self.steps

    def _loss_sum(self) -> float:
        """Return the sum since the last evaluation of the losses of whole batches."""
        return self.processes.sum(float(self.loss_sum))[0] / self.processes.size

    def _refuse_differences(self) -> None:
        self.processes.refuse_differences(equal_tensors(self.subject), self.step)

    def _evaluate(self) -> None:
        self._refuse_differences()
        reestimate(self.model, self.batches.first(BATCHES), self.processes)
        score = self.score = evaluate(self.model, self.batches.validation(), self.processes, loss=self.objective.loss)
        since = self.step - (self.history[-1]["step"] if self.history else self.start)
        train_loss = self._loss_sum() / max(1, since)
        # only at evaluations: a look at every step would make the host wait for the GPU
        if not (math.isfinite(train_loss) and math.isfinite(score.loss)):
            raise SupermaskError(
                f"The loss is not finite at step {self.step}: the training diverged; lower the learning rate."
            )
        self.loss_sum.zero_()
        self.history.append(
            {
                "step": self.step,
                "train_loss": train_loss,
                # null in the file where predictions are not classes: JSON has no NaN
                "validation_accuracy": None if score.correct is None else score.accuracy,
                "validation_loss": score.loss,
                # the rate of the last step that was taken
                "learning_rate": self.recipe.rate(max(0, self.step - 1), self.steps),
                **({"telemetry": self.telemetry.record()} if self.telemetry else {}),
            }
        )
        self._write_metrics()
        if is_complete(self.subject) and self._better(score):
            # a copy: the live tensors change in place
            self.best = {"step": self.step, "score": vars(score), "subject": deepcopy(self.subject.state_dict())}
        self.told.tell(self.history[-1], self.subject)

    def _write_metrics(self) -> None:
        if self.folder is not None:
            metrics = self.folder / "metrics.jsonl"
            self.processes.once(lambda: write_metrics(metrics, self.history))

    def _better(self, score: Score) -> bool:
        """Return whether a score is to be kept: the first, without a validation split every one, else a better one."""
        if not self.best or not score.total:
            return True
        best = Score(**self.best["score"])
        by_loss = score.correct is None or self.recipe.chooses_by_loss(score.total)
        return score.loss < best.loss if by_loss else score.accuracy > best.accuracy
