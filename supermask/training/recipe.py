"""How a network is trained: the optimizer, the learning rate over time, the batches."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError

OPTIMIZERS = ("sgd", "sgdw", "adam")
MOST_STEPS = 1_000_000_000
"""Optimizer steps of a training: the longest known of language models have a few million."""
LIMITS = {
    "epochs": (0, 1_000_000),  # of the smallest data set, a week on one core
    "iterations": (0, MOST_STEPS),
    "batch_size": (1, MOST_STEPS),  # a data set has its own say
    "warm_up": (0, MOST_STEPS),
    "padding": (0, 1_000),
    "warp": (0, 1_000),
    "evaluate_every": (0, MOST_STEPS),
}
"""The least and the most of each number that counts something."""
SMALL_SPLIT = 1000
"""Validation examples below which an accuracy has a standard error of up to a point and a half or more."""


@dataclass(frozen=True)
class Recipe:
    """Everything about training but the network and the data.

    The defaults are those of Ramanujan et al. 2020 for CIFAR-10 (SGD 0.1, momentum 0.9, weight decay 1e-4, batch 128,
    cosine), but for the number of epochs. A learning rate, a weight decay or a warm-up of None is what the method that
    is trained has in its `settings`; `settle` fills it in, and `train` calls that.

    Attributes:
        epochs: passes over the training examples; the last batch of each, if smaller than the others, is left out.
        iterations: optimizer steps in all, instead of the epochs.
        batch_size: examples per optimizer step, of all processes together; batch norm normalises over each one's share.
        optimizer: "sgd", "sgdw" or "adam".
        learning_rate: its peak; None is the method's own, else 0.1.
        momentum: of SGD.
        nesterov: look ahead along the momentum of SGD.
        weight_decay: added to the gradient as weight_decay * parameter in "sgd" and "adam"; in "sgdw" every step takes
            weight_decay * parameter * (rate / peak) away instead (Loshchilov & Hutter 2019, algorithm 1). None is the
            method's own, else 1e-4.
        decay: course of the learning rate: "cosine" to zero, "step" (a tenth at each of the drops) or "constant".
        drops: fractions of all steps, warm-up included, at which the learning rate drops with decay "step".
        warm_up: optimizer steps over which the rate first rises linearly; below 1, a fraction of all steps. None is
            the method's own, else 0.
        dropout: fraction of the inputs of every linear layer but a first one that a training step drops.
        augment: random crops of padded images, and random flips.
        padding: black pixels on each side of an image before a crop: the most by which it may be shifted.
        flips: whether augmented images are mirrored at random too; digits and letters should not be.
        warp: how far parts of images are moved, in pixels: the standard deviation of smooth random displacements
            (`supermask.data.Warp`), after the crops and flips of `augment` if these are on too.
        bf16: run the network under bfloat16 autocast; scores and weights stay float32.
        channels_last: lay images and convolutions out with their channels last. On the CPU a network with a strided
            1x1 convolution of fewer than eight channels goes without (see `supermask.training.layout`).
        compile: compile the network for its training steps, which pays in long runs; sums may round in another order.
        fused: let SGD make the gradients of scores, step and count for the selection in one pass, where the search has
            that (`Search.fused_sgd`); it is faster on the CPU, and sums round in another order.
        graph: take the steps as a CUDA graph (`supermask.training.graphed`), in which the host does not slow a small
            network down: SGD on one GPU, by edge-popup without a schedule or of the dense network.
        best: what chooses the best step on the validation split: the highest "accuracy", the lowest "loss", or "auto":
            the loss where the split has fewer than 1,000 examples and accuracy is a lottery, else the accuracy (a dense
            network's loss rises again while it still gains accuracy), and always the loss where predictions are not
            classes. The first step wins a tie.
        evaluate_every: optimizer steps between evaluations on the validation split; 0 is once an epoch.
        test_at: optimizer steps whose accuracy on the test set is reported beside that of the best step; they choose
            nothing. A training that begins after one leaves it out.

    """

    epochs: int = 10
    iterations: int | None = None
    batch_size: int = 128
    optimizer: Literal["sgd", "sgdw", "adam"] = "sgd"
    learning_rate: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float | None = None
    decay: Literal["cosine", "step", "constant"] = "cosine"
    drops: tuple[float, ...] = (0.5, 0.75)
    warm_up: int | float | None = None
    dropout: float = 0.0
    augment: bool = False
    padding: int = 4
    flips: bool = True
    warp: float = 0.0
    bf16: bool = False
    channels_last: bool = False
    compile: bool = False
    fused: bool = False
    graph: bool = False
    best: Literal["accuracy", "loss", "auto"] = "accuracy"
    evaluate_every: int = 0
    test_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        # first, because NaN would pass the comparisons below
        self._refuse_non_finite()
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name) or 0
            if value < least:
                raise SupermaskError(f"{name}={value} is too small; it must be at least {least}.")
            if value > most:
                raise SupermaskError(f"{name}={value} is too large; it must be at most {most:,}.")
        if not all(step <= MOST_STEPS for step in self.test_at):
            raise SupermaskError(f"test_at={self.test_at} names steps that never come; give at most {MOST_STEPS:,}.")
        if not 0.0 <= self.dropout < 1.0 or not all(0.0 < drop < 1.0 for drop in self.drops):
            raise SupermaskError(
                f"dropout={self.dropout}, drops={self.drops} do not fit: the first is in [0, 1), the others between 0"
                " and 1."
            )
        if not (self.peak > 0.0 and self.effective_weight_decay >= 0.0 and 0.0 <= self.momentum < 1.0):
            raise SupermaskError(
                f"learning_rate={self.peak}, weight_decay={self.effective_weight_decay}, momentum={self.momentum} do"
                " not fit: the rate is positive, the decay not negative, the momentum in [0, 1)."
            )
        if (self.warm_up or 0) > 1 and self.warm_up != int(self.warm_up or 0):
            raise SupermaskError(
                f"warm_up={self.warm_up} is not a whole number of steps; give one, or a fraction of all steps below 1."
            )
        if self.optimizer not in OPTIMIZERS:
            raise SupermaskError(f"Unknown optimizer {self.optimizer!r}; known are {', '.join(OPTIMIZERS)}.")
        if self.nesterov and (self.optimizer == "adam" or not self.momentum):
            raise SupermaskError(f"nesterov=True needs SGD with momentum; this is {self.optimizer}, {self.momentum}.")
        if self.fused and self.optimizer != "sgd":
            raise SupermaskError(f"fused=True needs optimizer sgd; this is {self.optimizer}.")
        if self.graph and (self.optimizer != "sgd" or self.fused or self.compile):
            raise SupermaskError(
                f"graph=True needs optimizer sgd and neither fused nor compile; this is {self.optimizer},"
                f" fused={self.fused}, compile={self.compile}."
            )
        if self.best not in ("accuracy", "loss", "auto"):
            raise SupermaskError(f"Unknown best={self.best!r}; known are accuracy, loss, auto.")
        if self.decay not in ("cosine", "step", "constant"):
            raise SupermaskError(f"Unknown decay {self.decay!r}; known are cosine, step, constant.")

    @property
    def peak(self) -> float:
        """The peak of the learning rate, 0.1 where none is given."""
        return 0.1 if self.learning_rate is None else self.learning_rate

    @property
    def effective_weight_decay(self) -> float:
        """The weight decay, 1e-4 where none is given."""
        return 1e-4 if self.weight_decay is None else self.weight_decay

    def settle(self, own: Mapping[str, Any] = MappingProxyType({})) -> "Recipe":
        """Return the recipe with nothing left open: what is None is the method's own value, or else the default.

        Args:
            own: values of a method, by the names of the attributes; those that are not None here stay as they are, and
                so does what cannot be None.

        """
        general = {
            "learning_rate": self.peak,
            "weight_decay": self.effective_weight_decay,
            "warm_up": self.warm_up or 0,
        }
        return replace(
            self, **{name: own.get(name, value) for name, value in general.items() if getattr(self, name) is None}
        )

    def recorded(self) -> dict[str, Any]:
        """Return the values as JSON has them, without what older records do not name where it is not asked for."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for name in ("graph", "warp"):
            if not values[name]:
                del values[name]
        return values

    def describe(self) -> str:
        """Return the optimizer and the rate over time as a line of text."""
        warm_up = self.warm_up or 0
        rise = f"{warm_up:.0%} of the steps" if 0 < warm_up < 1 else f"{warm_up:g} steps"
        length = (
            f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
            if self.iterations is None
            else f"{self.iterations:,} steps"
        )
        return (
            f"{self.optimizer} at {self.peak:g}, {self.decay}, warm-up {rise if warm_up else 'none'}, weight decay"
            f" {self.effective_weight_decay:g}, batch {self.batch_size}, {length}"
        )

    def warm_up_steps(self, steps: int) -> int:
        """Return the optimizer steps of the warm-up, of `steps` in all."""
        warm_up = self.warm_up or 0
        return round(warm_up * steps) if warm_up < 1 else int(warm_up)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of optimizer step `step`, counted from 0, of `steps` in all."""
        warm_up = self.warm_up_steps(steps)
        if step < warm_up:
            # step + 1, so that the first step is not lost to a rate of 0 and the last of the warm-up has the peak
            return self.peak * (step + 1) / warm_up
        # the warm-up may be as long as the training
        done = (step - warm_up) / max(1, steps - warm_up)
        if self.decay == "cosine":
            return self.peak * 0.5 * (1.0 + math.cos(math.pi * done))
        if self.decay == "step":
            return self.peak * 0.1 ** sum(step >= drop * steps for drop in self.drops)
        return self.peak

    def total_rate(self, steps: int) -> float:
        """Return how far a constant gradient of 1 moves a parameter in so many steps of SGD.

        That is the sum of the rates by 1 - momentum, as if every step's momentum had run out.
        """
        return sum(self.rate(step, steps) for step in range(steps)) / (1.0 - self.momentum)

    def chooses_by_loss(self, validation: int) -> bool:
        """Return whether the loss chooses the best step, for a validation split of so many examples."""
        return self.best == "loss" or (self.best == "auto" and validation < SMALL_SPLIT)

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer; the loop sets its learning rate at every step."""
        if self.optimizer == "adam":
            # not AdamW, whose decay does not go through the gradient
            return torch.optim.Adam(parameters, lr=self.peak, weight_decay=self.effective_weight_decay)
        trained = [*parameters]
        kind = SGDW if self.optimizer == "sgdw" else torch.optim.SGD
        # a graph needs a step that reads its rate on the GPU; None is torch's own choice, there few launches for all
        optimizer = kind(trained, fused=self.graph or _in_one_pass(trained) or None, **self.sgd)
        optimizer.register_step_pre_hook(_lay_gradients)
        return optimizer

    @property
    def sgd(self) -> Mapping[str, Any]:
        """The numbers of SGD by the names that `torch.optim.SGD` has for them."""
        return {
            "lr": self.peak,
            "momentum": self.momentum,
            "weight_decay": self.effective_weight_decay,
            "nesterov": self.nesterov,
        }

    def steps(self, examples: int) -> int:
        """Return the optimizer steps in all, for so many training examples."""
        return self.epochs * self.steps_per_epoch(examples) if self.iterations is None else self.iterations

    def steps_per_epoch(self, examples: int) -> int:
        """Return the optimizer steps of one epoch.

        Raises:
            SupermaskError: there are fewer examples than one batch holds.

        """
        if examples < self.batch_size:
            raise SupermaskError(
                f"batch_size={self.batch_size} is larger than the {examples} training examples; give a smaller batch."
            )
        return examples // self.batch_size

    def _refuse_non_finite(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise SupermaskError(f"{field.name}={value} is not a finite number.")


def _in_one_pass(parameters: Iterable[Tensor]) -> bool:
    """Return whether torch's fused step takes these parameters, and is faster: twice, on the CPU."""
    return all(each.is_floating_point() and each.is_cpu for each in parameters)


def _lay_gradients(optimizer: torch.optim.Optimizer, _: Any, __: Any) -> None:
    """Lay each gradient out as its parameter is: torch's fused step goes through memory and does not look."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and gradient.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(gradient)


class SGDW(torch.optim.SGD):
    """SGD whose weight decay is decoupled from the gradient: Loshchilov & Hutter 2019, algorithm 1.

    A step of rate r takes weight_decay * (r / peak) of each parameter away, apart from the momentum; r / peak is the
    multiplier of the schedule, and `lr` at construction is the peak.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float, **options: Any) -> None:
        super().__init__(parameters, lr=lr, **options)
        self.peak, self.decoupled = lr, weight_decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Shrink the parameters that have a gradient, and take a step of SGD."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1.0 - self.decoupled * group["lr"] / self.peak)
        return super().step(closure)
