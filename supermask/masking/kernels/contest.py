"""What a selection is asked: which entries of some tensors are kept."""

from typing import NamedTuple

from torch import Tensor


class Contest(NamedTuple):
    """Tensors whose entries compete for a number of places.

    The flat index that breaks ties runs through the tensors in their order, in each row-major whatever its memory
    format.

    Attributes:
        scores: real floating tensors of any shapes and memory formats, all on one device.
        kept: how many entries are kept, from 0 to all of them.
        masks: bool tensors of the same shapes, written in place: True = kept.

    """

    scores: tuple[Tensor, ...]
    kept: int
    masks: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Number of entries that compete."""
        return sum(tensor.numel() for tensor in self.scores)
