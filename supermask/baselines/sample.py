"""Training examples that a method looks at before any training."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from supermask.data import DataSet
from supermask.data.batch import Batch
from supermask.errors import SupermaskError
from supermask.random.keyed import keyed_permutation
from supermask.training.objective import Objective


@dataclass(frozen=True)
class Sample:
    """Draws from the training part of a data set, the same for the same seed.

    Attributes:
        data: the data set.
        seed: of the draws.
        device: where they are to lie.
        objective: what the training minimises.

    """

    data: DataSet
    seed: int
    device: torch.device
    objective: Objective = field(default_factory=Objective)

    def batch(self, size: int) -> Batch:
        """Return inputs, e.g. images float32 (size, C, H, W), normalised, and targets, drawn without replacement.

        Raises:
            SupermaskError: there are fewer training examples.

        """
        if not 1 <= size <= len(self.data.train):
            raise SupermaskError(f"A batch of {size} examples cannot be drawn from {len(self.data.train)}.")
        return self._prepared(self._order()[:size])

    def up_to(self, size: int) -> Batch:
        """Return as many examples, as `batch` does, or all of them where there are fewer."""
        return self.batch(min(size, len(self.data.train)))

    def per_class(self, count: int) -> Batch:
        """Return `count` examples of each class, as `batch` does; of ten classes where targets are not one class each.

        Raises:
            SupermaskError: a class has fewer training examples.

        """
        if self.data.train.labels.is_floating_point() or self.data.train.labels.ndim > 1:
            return self.batch(min(10 * count, len(self.data.train)))  # as many as of the ten classes of CIFAR-10
        order = self._order()
        labels = self.data.train.labels[order]
        places = [order[labels == label][:count] for label in range(self.data.classes)]
        for label, found in enumerate(places):
            if len(found) < count:
                raise SupermaskError(f"Class {label} has {len(found)} training examples; {count} were asked for.")
        return self._prepared(torch.cat(places))

    def _order(self) -> Tensor:
        return torch.from_numpy(keyed_permutation(len(self.data.train), self.seed, "sample"))

    def _prepared(self, chosen: Tensor) -> Batch:
        examples = self.data.train.select(chosen)
        return Batch(self.data.normalize(examples.images).to(self.device), examples.labels.to(self.device))
