"""The step to rewind to, chosen by stability: the first from which copies of the dense network end connected."""

from collections.abc import Mapping
from dataclasses import dataclass

from supermask.baselines.instability import copies, instability
from supermask.baselines.method import RunContext
from supermask.errors import SupermaskError
from supermask.judge.barrier import STABLE
from supermask.training import State

FRACTIONS = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
"""Steps that are tried, over those of the training. Frankle et al. 2020 find dense networks stable from 0 % (LeNet),
1.5 % (VGG-16), 3 % (ResNet-20) and 16 % (Inception-v3)."""
_ORDERS = (2_000_003, 3_000_017)  # away from the seeds of other runs


@dataclass(frozen=True)
class Scanned:
    """A step that was tried.

    Attributes:
        step: of the dense training.
        height: of the error barrier between the two copies on the validation examples, a fraction.
        steps: optimizer steps that the two copies took.

    """

    step: int
    height: float
    steps: int


def candidates(steps: int) -> tuple[int, ...]:
    """Return the steps that are tried, in order, for a training of so many."""
    return tuple(sorted({round(fraction * steps) for fraction in FRACTIONS}))


def scan(context: RunContext, states: Mapping[int, State]) -> tuple[Scanned, ...]:
    """Return the steps that were tried, up to the first that is stable.

    Two copies of the dense network are trained to the end from each step's state, momentum included, with orders of
    their own. A step is stable where the barrier between them on the validation examples is below two points (Frankle,
    Dziugaite, Roy & Carbin 2020, section 3.1, on the test set, which chooses nothing here).

    Args:
        context: the run.
        states: of the dense training, by step.

    Raises:
        SupermaskError: no step is stable, or there are no validation examples.

    """
    if not len(context.data.validation):
        raise SupermaskError(f"rewind_to=stable needs validation examples; {context.data.name} has none here.")
    orders = [(context.seed + order) % 2**63 for order in _ORDERS]
    tried: list[Scanned] = []
    for step in sorted(states):
        networks = copies(context, context.whole, states[step], orders, stage=f"stable-{step}")
        height = instability(context, networks, part="validation").height
        tried.append(Scanned(step, height, len(orders) * (context.steps - step)))
        if height < STABLE:
            return tuple(tried)
    raise SupermaskError(
        f"The network is stable at no step up to {tried[-1].step}, where the barrier is {tried[-1].height:.1%}; give"
        " rewind_to a step, or train at a smaller rate."
    )
