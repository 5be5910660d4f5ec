"""How fast a ticket's network is on this machine: some training steps and one evaluation, timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _NormBase

from supermask.baselines.sparse import Sparse
from supermask.results import Result
from supermask.runs.ticket_scores import batches_for
from supermask.training.batch_norm import BATCHES
from supermask.training.batches import on_device
from supermask.training.evaluation import outputs, scored

if TYPE_CHECKING:  # the context holds a pace
    from supermask.runs.diagnostics.context import Context

WARM, LEAST, MOST, SECONDS = 3, 5, 20, 1.5
"""Steps before the clock starts, the fewest and most that are timed, and the seconds after which no more are begun."""
EXAMPLES, PARTS = 1_000, 5
"""Most examples of the timed evaluation, and its parts, which are timed one by one."""


@dataclass(frozen=True, kw_only=True)
class Pace(Result):
    """What a network takes here.

    Attributes:
        build: seconds to build it and to grow and mask its weights.
        step: seconds of an optimizer step.
        example: seconds to evaluate an example.
        estimate: seconds to estimate the statistics of batch norm; 0 where there are none.
        steps: optimizer steps that were timed.
        examples: that were evaluated.

    """

    build: float
    step: float
    example: float
    estimate: float
    steps: int
    examples: int

    def evaluation(self, examples: int) -> float:
        """Return the seconds to evaluate so many examples."""
        return self.example * examples

    def untrained(self, examples: int) -> float:
        """Return the seconds to make a control, build it, estimate its statistics and evaluate it."""
        return 2 * self.build + self.estimate + self.evaluation(examples)

    def training(self, steps: int, evaluations: int, validation: int, test: int) -> float:
        """Return the seconds to measure a network untrained, and trained for so many steps."""
        return self.alone(0, 0, validation, test) + self.alone(steps, evaluations, validation, test)

    def alone(self, steps: int, evaluations: int, validation: int, test: int) -> float:
        """Return the seconds to build a network, train it for so many steps and measure it then."""
        looks = self.evaluation(validation) + self.estimate
        once = self.build + self.estimate + self.evaluation(test) + looks
        return once + self.step * steps + evaluations * looks

    def line(self, points: int, training: int, test: int) -> float:
        """Return the seconds of the errors between two networks: with batch norm, with both of its statistics.

        Args:
            points: places on the line.
            training: examples that statistics are estimated and the training error is measured on.
            test: test examples.

        """
        errors = self.evaluation(training + test)
        return points * (2 * errors + self.evaluation(training) if self.estimate else errors)


def measure_pace(context: "Context") -> Pace:
    """Time a ticket's network on its data: on training and validation examples, never on test examples."""
    begun = time.perf_counter()
    subject = Sparse(context.filed.build(), context.ticket)
    model = subject.model.to(context.device)
    build = time.perf_counter() - begun
    batches, optimizer = context.batches(), context.recipe(1).make_optimizer(subject.parameters())

    def step() -> None:
        images, labels = batches.batch(0)
        model.train()
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        subject.step()

    with torch.random.fork_rng(devices=[]):
        timed = _timed(step, context.device)
    held = context.data.validation if len(context.data.validation) else context.data.train
    some = on_device(held.select(torch.arange(min(EXAMPLES, len(held)))), context.device)

    def evaluate(part: Tensor) -> float:
        begun = time.perf_counter()
        scored(outputs(model, batches_for(model, context.data, some.select(part))))
        return (time.perf_counter() - begun) / len(part)

    # medians, because other programs may take the machine for a moment
    example = median(map(evaluate, torch.arange(len(some)).chunk(PARTS)))
    normed = any(isinstance(module, _NormBase) and module.track_running_stats for module in model.modules())
    examples = min(BATCHES, batches.per_epoch) * context.recipe(1).batch_size
    return Pace(
        build=build,
        step=median(timed),
        example=example,
        estimate=normed * example * examples,
        steps=len(timed),
        examples=len(some),
    )


def _timed(step: Callable[[], None], device: torch.device) -> list[float]:
    """Return the seconds of each of some steps."""
    found: list[float] = []
    for number in range(WARM + MOST):
        begun = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - begun)
        if number + 1 >= WARM + LEAST and sum(found) > SECONDS:
            break
    # the first steps allocate memory, and on a GPU choose kernels
    return found[WARM:]
