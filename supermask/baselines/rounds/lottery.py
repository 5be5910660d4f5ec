"""Lottery tickets: rounds after which the weights go back to where they were early in the training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from supermask.baselines.method import RunContext
from supermask.baselines.rounds.engine import Again, GlobalRounds, Rounds, Tensors, TrainedNetwork
from supermask.baselines.rounds.scan import Scanned, candidates, scan
from supermask.errors import SupermaskError
from supermask.masking.ladder import Ladder
from supermask.ticket import Ticket
from supermask.training import State


@dataclass(frozen=True)
class IMP(Rounds):
    """Lottery tickets by iterative magnitude pruning, reset to their initial weights.

    Frankle & Carbin 2019, section 2 (strategy 1 of appendix B: iterative with resetting): each round removes 20 % of
    every layer's weights that are left, of the output layer half as much.

    Attributes:
        rate: fraction of a layer's weights that a round removes.
        conv_rate: the same of convolutions; by default as other layers.
        output_rate: the same of the output layer; by default half of the rate (section 2; appendix G).
        ranking: by "layer", or one over the whole network ("global"; section 5).

    """

    name: ClassVar[str] = "imp"

    rate: float = 0.2
    conv_rate: float | None = None
    output_rate: float | None = None
    ranking: Literal["layer", "global"] = "layer"

    @property
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""
        if self.ranking == "global":
            return Ladder(self.rate, self.conv_rate, self.output_rate, whole=True)
        output = self.rate / 2 if self.output_rate is None else self.output_rate
        return Ladder(self.rate, self.conv_rate, output)

    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Start from the initial weights."""
        return Again(ticket)


@dataclass(frozen=True)
class OneShot(IMP):
    """Lottery tickets by one round of pruning (Frankle & Carbin 2019, section 2 and appendix G)."""

    name: ClassVar[str] = "imp_one_shot"

    @property
    def one_shot(self) -> bool:
        """All is pruned in one round."""
        return True


@dataclass(frozen=True)
class IMPRewind(GlobalRounds):
    """Iterative magnitude pruning with rewinding: weights go back to an early step, and so does the schedule.

    Frankle, Dziugaite, Roy & Carbin 2020, figure 1; the weight rewinding of Renda, Frankle & Carbin 2020, section 3.
    One ranking over the whole network; 20 % per round.

    Attributes:
        rate: fraction of the weights left that a round removes.
        rewind_to: optimizer step of the dense training; by default 2 % of its steps: the paper's ResNet-20 on CIFAR-10
            becomes stable after 500 to 2,000 of 63,000 steps. "stable" tries 0, 0.5, 1, 2, 4, 8 and 16 % of the steps,
            and takes the first from which two copies of the dense network that see other orders of the examples end
            with an error barrier below two points between them, on the validation examples. That costs two trainings
            for each step tried.

    """

    name: ClassVar[str] = "imp_rewind"

    rewind_to: int | Literal["stable"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rewind_to == "stable" and self.round_steps is not None:
            raise SupermaskError("rewind_to=stable measures whole trainings; leave round_steps out.")
        if isinstance(self.rewind_to, int) and self.rewind_to < 0:
            raise SupermaskError(f"rewind_to={self.rewind_to} is negative; give an optimizer step.")
        if isinstance(self.rewind_to, str) and self.rewind_to != "stable":
            raise SupermaskError(f"rewind_to={self.rewind_to!r} is unknown; give an optimizer step, or stable.")

    def keeps_step(self, context: RunContext) -> int:
        """Return the step that is rewound to, where no scan chooses it."""
        return self.rewind_to if isinstance(self.rewind_to, int) else round(0.02 * context.steps)

    def keeps(self, context: RunContext) -> tuple[int, ...]:
        """Return the steps that a scan tries, or the one that is rewound to."""
        return candidates(context.steps) if self.rewind_to == "stable" else super().keeps(context)

    def rewinding(self, context: RunContext, states: Mapping[int, State]) -> tuple[int, tuple[Scanned, ...] | None]:
        """Return the step that is rewound to: the first that is stable, where that was asked for."""
        if self.rewind_to != "stable":
            return super().rewinding(context, states)
        tried = scan(context, states)
        return tried[-1].step, tried

    def again(self, context: RunContext, ticket: Ticket, dense: TrainedNetwork, final: Tensors) -> Again:
        """Start from the weights of the early step, with what is left of the recipe."""
        return Again(ticket, dense.early, start=dense.step)
