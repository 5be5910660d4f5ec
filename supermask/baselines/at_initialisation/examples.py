"""What a method looks at before any training: draws of a data set, or examples that the caller has."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from supermask.errors import SupermaskError


class ExampleSource(Protocol):
    """Gives training examples; `supermask.baselines.sample.Sample` draws them from a data set."""

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return that many images, as the network takes them, and their labels, int64 (size,)."""

    def per_class(self, count: int) -> tuple[Tensor, Tensor]:
        """Return that many examples of each class."""


@dataclass(frozen=True)
class Given:
    """Examples that the caller gave: all of them, however many were asked for.

    Attributes:
        seed: of what is drawn besides.
        examples: images and labels, if any were given.

    """

    seed: int
    examples: tuple[Tensor, Tensor] | None

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return the examples.

        Raises:
            SupermaskError: none were given.

        """
        if self.examples is None:
            raise SupermaskError("This method looks at training examples; give it some as examples=(images, labels).")
        return self.examples

    def per_class(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the examples, as `batch` does."""
        return self.batch(count)
