"""What the run of a ticket, of a control or of a dense network beside it leaves."""

from collections.abc import Mapping
from dataclasses import dataclass

from supermask.training.result import Scored, TrainingResult


@dataclass(frozen=True)
class UntrainedScores:
    """Scores of a network of which nothing was trained but the statistics of batch norm."""

    validation: Scored
    test: Scored


@dataclass(frozen=True, kw_only=True)
class ControlResult(TrainingResult):
    """The result of a network that is compared with a ticket, or of the ticket itself.

    Attributes:
        untrained: the scores before the training.
        strong: whether the ticket's claim is about its network untrained.
        parameters: that are trained.
        kept: weights that the masks keep; None without masks.
        prunable: weights that they could keep.
        moved: of a control, mask entries that it changed, by layer; None of other networks.
        reweighted: of a control, whether the random weights are others.
        width: of the small dense network.

    """

    untrained: UntrainedScores
    strong: bool
    parameters: int
    kept: int | None = None
    prunable: int | None = None
    moved: Mapping[str, int] | None = None
    reweighted: bool | None = None
    width: float | None = None
