"""What a method looks at before any training: draws of a data set, or examples that the caller has."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from supermask.data.batch import Batch, batch_of
from supermask.errors import SupermaskError
from supermask.training.objective import Objective


class ExampleSource(Protocol):
    """Gives training examples; `supermask.baselines.sample.Sample` draws them from a data set."""

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""

    @property
    def objective(self) -> Objective:
        """What the training minimises."""

    def batch(self, size: int) -> Batch:
        """Return that many inputs, as the network takes them, and their targets."""

    def up_to(self, size: int) -> Batch:
        """Return that many examples, or all of them where there are fewer."""

    def per_class(self, count: int) -> Batch:
        """Return that many examples of each class."""


@dataclass(frozen=True)
class Given:
    """Examples that the caller gave: all of them, however many were asked for.

    Attributes:
        seed: of what is drawn besides.
        examples: a batch of any kind, see `supermask.data.batch`, if one was given.
        objective: what the training minimises.

    """

    seed: int
    examples: Any
    objective: Objective = field(default_factory=Objective)

    def batch(self, size: int) -> Batch:
        """Return the examples.

        Raises:
            SupermaskError: none were given.

        """
        if self.examples is None:
            raise SupermaskError("This method looks at training examples; give it some as examples=(images, labels).")
        return batch_of(self.examples)

    def up_to(self, size: int) -> Batch:
        """Return the examples, as `batch` does."""
        return self.batch(size)

    def per_class(self, count: int) -> Batch:
        """Return the examples, as `batch` does."""
        return self.batch(count)
