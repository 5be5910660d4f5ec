"""Training examples that a method looks at before any training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from supermask.data import DataSet
from supermask.errors import SupermaskError
from supermask.random.keyed import keyed_permutation


@dataclass(frozen=True)
class Sample:
    """Draws from the training part of a data set, the same for the same seed.

    Attributes:
        data: the data set.
        seed: of the draws.
        device: where they are to lie.

    """

    data: DataSet
    seed: int
    device: torch.device

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Return images float32 (size, C, H, W), normalised, and labels int64 (size,), drawn without replacement.

        Raises:
            SupermaskError: there are fewer training examples.

        """
        if not 1 <= size <= len(self.data.train):
            raise SupermaskError(f"A batch of {size} examples cannot be drawn from {len(self.data.train)}.")
        return self._prepared(self._order()[:size])

    def per_class(self, count: int) -> tuple[Tensor, Tensor]:
        """Return `count` examples of each class, as `batch` does.

        Raises:
            SupermaskError: a class has fewer training examples.

        """
        order = self._order()
        labels = self.data.train.labels[order]
        places = [order[labels == label][:count] for label in range(self.data.classes)]
        for label, found in enumerate(places):
            if len(found) < count:
                raise SupermaskError(f"Class {label} has {len(found)} training examples; {count} were asked for.")
        return self._prepared(torch.cat(places))

    def _order(self) -> Tensor:
        return torch.from_numpy(keyed_permutation(len(self.data.train), self.seed, "sample"))

    def _prepared(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        examples = self.data.train.select(chosen)
        return self.data.normalize(examples.images).to(self.device), examples.labels.to(self.device)
