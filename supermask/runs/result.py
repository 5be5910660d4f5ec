"""What the run of a job leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from supermask.results import inlined
from supermask.runs.methods import METHODS
from supermask.runs.proof import Proof
from supermask.training.result import TrainingResult

D = TypeVar("D")


def _kind_of_details(values: Mapping[str, Any]) -> type | None:
    method = METHODS.get(values["config"]["method"])
    return None if method is None else method.details_kind


@dataclass(frozen=True, kw_only=True)
class JobResult(TrainingResult):
    """The result of a job.

    Attributes:
        kept: prunable weights that the network keeps.
        prunable: that it could have; of a network without masks, all of its parameters.
        bytes: of the file of the network.
        file: its name in the folder of the run; collected results go without.
        proof: what the file of a strong ticket proves of its error; None where it proves nothing, and of older runs.
        details: what the method has to say besides, a record of its own kind; None for most.

    """

    kept: int
    prunable: int
    bytes: int
    file: str | None = None
    proof: Proof | None = None
    details: object = field(default=None, metadata=inlined(_kind_of_details))

    @property
    def density(self) -> float:
        """Fraction of the prunable weights that is kept; 0 where there are none."""
        return self.kept / max(1, self.prunable)

    @property
    def cost(self) -> float | None:
        """Optimizer steps of all trainings that led to the network, as a multiple of one whole training.

        It is 1 for a method without details, which trains once; None where the details do not say.
        """
        cost: float | None = getattr(self.details, "cost", None)
        return 1.0 if self.details is None else cost

    def detail(self, kind: type[D]) -> D:
        """Return the details, which are of this kind."""
        assert isinstance(self.details, kind), f"the details of {self.config['method']} are no {kind.__name__}"
        return self.details
