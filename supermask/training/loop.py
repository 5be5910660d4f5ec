"""The training loop that every algorithm shares."""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from supermask.data import DataSet
from supermask.errors import RunError, SupermaskError
from supermask.training.batches import Batches, Prepared, on_device
from supermask.training.checkpoint import load_checkpoint, save_checkpoint
from supermask.training.evaluation import Score, evaluate
from supermask.training.interrupts import Stopped, StopRequest
from supermask.training.metrics import write_metrics
from supermask.training.recipe import Recipe
from supermask.training.statistics import BATCHES, reestimate

CHECKPOINT = "run.checkpoint"


class Subject(Protocol):
    """What the loop trains: a search, or a baseline. `supermask.EdgePopup` is one."""

    name: ClassVar[str]
    model: nn.Module

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what the optimizer trains."""

    def step(self) -> None:
        """Do what follows an optimizer step."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""


@dataclass(frozen=True)
class Outcome:
    """What a training run came to. The subject is left in the state of the best step.

    Attributes:
        best_step: optimizer steps after which the network did best on the validation split; see `Recipe.best`.
        steps: optimizer steps in all.
        validation: score of the best step on the validation split, which chose it.
        test: its score on the test set, read once.
        history: one record per evaluation: step, train_loss, validation accuracy and loss, learning_rate.
        seconds: spent training and evaluating, over all resumptions.

    """

    best_step: int
    steps: int
    validation: Score
    test: Score
    history: list[dict[str, float]]
    seconds: float


def train(
    subject: Subject,
    data: DataSet,
    recipe: Recipe,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> Outcome:
    """Train a subject, keep the step that does best on the validation split, and test it once.

    Args:
        subject: a search or a baseline over a model that takes the data's images.
        data: of which the training part is trained on and the validation part chooses the step. Without validation
            examples the last step is taken.
        recipe: the optimizer, the schedule and the batches.
        seed: of the order of the examples, the augmentation and dropout.
        device: where to train; the model is moved there.
        folder: takes metrics.jsonl and the checkpoint; None writes nothing.
        resume: go on from the folder's checkpoint where there is one. On the CPU the end is the same, bit for bit, as
            without the interruption.
        checkpoint_seconds: time between checkpoints; one is also written on Ctrl-C, on SIGTERM and at the end.
        progress: show a progress bar where standard error is a terminal.

    Raises:
        SupermaskError: the recipe does not fit the data, or the training diverged.
        Stopped: a signal asked for it; the checkpoint was written.

    """
    run = _Run(subject, data, recipe, seed, torch.device(device), folder)
    cuda = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), StopRequest() as stop:
        torch.manual_seed(seed)
        if resume and folder is not None and (folder / CHECKPOINT).exists():
            run.load(load_checkpoint(folder / CHECKPOINT))
        run.advance(stop, checkpoint_seconds, progress)
        return run.finish()


class _Run:
    """One training run: its state, and how it is advanced, saved and finished."""

    def __init__(
        self,
        subject: Subject,
        data: DataSet,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        folder: Path | None,
    ) -> None:
        self.subject, self.data, self.recipe, self.device, self.folder = subject, data, recipe, device, folder
        layout = torch.channels_last if recipe.channels_last else torch.preserve_format
        self.model = subject.model.to(device=device).to(memory_format=layout)
        self.batches = Batches(data, recipe, seed=seed, device=device)
        self.validation = Prepared(data, on_device(data.validation, device), recipe)
        self.steps = recipe.epochs * self.batches.per_epoch
        self.optimizer = recipe.make_optimizer(subject.parameters()) if self.steps else None
        self.plan = {"method": subject.name, "data": data.name, "seed": seed, **asdict(recipe)}
        self.step = 0
        self.loss_sum = torch.zeros((), device=device)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}
        self.seconds = 0.0

    def advance(self, stop: StopRequest, checkpoint_seconds: float, progress: bool) -> None:
        """Run the steps that are left, evaluating and saving on the way."""
        began = saved = time.monotonic()
        before = self.seconds
        with self._bar(progress) as bar:
            if self.step == 0 and not self.history:
                self._evaluate()
            while self.step < self.steps:
                self._train_step()
                bar.update()
                if self._evaluation_due():
                    self._evaluate()
                    bar.set_postfix_str(f"validation {self.history[-1]['validation_accuracy']:.2%}")
                self.seconds = before + time.monotonic() - began
                if stop.asked:
                    self.save()
                    raise Stopped(f"stopped after step {self.step} of {self.steps}")
                if time.monotonic() - saved >= checkpoint_seconds:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def _bar(self, progress: bool) -> tqdm:
        return tqdm(
            total=self.steps,
            initial=self.step,
            desc=self.subject.name,
            unit="step",
            leave=False,
            disable=None if progress else True,  # None: where standard error is no terminal
            dynamic_ncols=True,
        )

    def finish(self) -> Outcome:
        """Return to the best step, estimate its statistics and read the test set."""
        self.subject.load_state_dict(self.best["subject"])
        reestimate(self.model, self.batches.first(BATCHES))
        test = Prepared(self.data, on_device(self.data.test(), self.device), self.recipe)
        return Outcome(
            best_step=self.best["step"],
            steps=self.steps,
            validation=Score(**self.best["score"]),
            test=evaluate(self.model, test),
            history=self.history,
            seconds=self.seconds,
        )

    def save(self) -> None:
        """Write the checkpoint, if there is a folder for it."""
        if self.folder is not None:
            save_checkpoint(self.folder / CHECKPOINT, self.state())

    def state(self) -> dict[str, Any]:
        """Return everything that changes."""
        state = {
            "plan": self.plan,
            "step": self.step,
            "subject": self.subject.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "loss_sum": self.loss_sum,
            "history": self.history,
            "best": self.best,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned.

        Raises:
            RunError: it is of a run with another seed or recipe.

        """
        if state["plan"] != self.plan:
            raise RunError(f"The checkpoint is of another run ({state['plan']}), not of this one ({self.plan}).")
        self.step, self.history, self.best = state["step"], state["history"], state["best"]
        self.subject.load_state_dict(state["subject"])
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
        self.loss_sum = state["loss_sum"].to(self.device)
        self.seconds = state["seconds"]
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)

    def _train_step(self) -> None:
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.steps)
        images, labels = self.batches.batch(self.step)
        self.model.train()
        precision = torch.autocast(self.device.type, torch.bfloat16) if self.recipe.bf16 else nullcontext()
        with precision:
            loss = cross_entropy(self.model(images).float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.subject.step()
        self.loss_sum += loss.detach()
        self.step += 1

    def _evaluation_due(self) -> bool:
        every = self.recipe.evaluate_every or self.batches.per_epoch
        return self.step % every == 0 or self.step == self.steps

    def _evaluate(self) -> None:
        reestimate(self.model, self.batches.first(BATCHES))
        score = evaluate(self.model, self.validation)
        since = self.step - (self.history[-1]["step"] if self.history else 0)
        train_loss = float(self.loss_sum) / max(1, since)
        if not (math.isfinite(train_loss) and math.isfinite(score.loss)):
            raise SupermaskError(
                f"The loss is not finite at step {self.step}: the training diverged; lower the learning rate."
            )
        self.loss_sum.zero_()
        self.history.append(
            {
                "step": self.step,
                "train_loss": train_loss,
                "validation_accuracy": score.accuracy,
                "validation_loss": score.loss,
                "learning_rate": self.recipe.rate(max(0, self.step - 1), self.steps),
            }
        )
        if self.folder is not None:
            write_metrics(self.folder / "metrics.jsonl", self.history)
        if not self.best or not len(self.data.validation) or self._better(score, Score(**self.best["score"])):
            # a copy: the live tensors change in place
            self.best = {"step": self.step, "score": vars(score), "subject": deepcopy(self.subject.state_dict())}

    def _better(self, score: Score, best: Score) -> bool:
        by_loss = self.recipe.chooses_by_loss(len(self.data.validation))
        return score.loss < best.loss if by_loss else score.accuracy > best.accuracy
