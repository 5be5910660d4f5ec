"""The numbers that networks are run in: what their rounding can do to a sum of products."""

from dataclasses import dataclass

import torch

from supermask.errors import SupermaskError


@dataclass(frozen=True)
class Precision:
    """A dtype's rounding.

    Attributes:
        dtype: of weights, inputs and hidden tensors.
        adds: largest relative error of one addition or multiplication inside of a sum. Sums of bfloat16 are added up
            in float32, as torch does.
        stores: the same of a number that is stored, where that is coarser; else 0.
        tiny: the smallest normal number. What is smaller may be lost.

    """

    dtype: torch.dtype
    adds: float
    stores: float
    tiny: float

    @property
    def name(self) -> str:
        """As torch calls it, without "torch."."""
        return str(self.dtype).removeprefix("torch.")

    def sums(self, terms: int) -> float:
        """Return by how much a sum of products is off at most, in any order, over the sum of their sizes.

        n u / (1 - n u) for n terms and errors of u (Higham 2002, section 3.1); infinite where that says nothing.
        """
        share = terms * self.adds
        return share / (1.0 - share) if share < 1.0 else float("inf")

    def stored(self, times: int) -> float:
        """Return the same of a number that is stored so many times on its way."""
        share = times * self.stores
        return share / (1.0 - share) if share < 1.0 else float("inf")


FLOAT64 = Precision(torch.float64, 2.0**-53, 0.0, 2.0**-1022)
PRECISIONS = (
    FLOAT64,
    Precision(torch.float32, 2.0**-24, 0.0, 2.0**-126),
    Precision(torch.bfloat16, 2.0**-24, 2.0**-8, 2.0**-126),
)


def precision_of(dtype: torch.dtype) -> Precision:
    """Return what is known of a dtype.

    Raises:
        SupermaskError: nothing is, as of float16, whose largest number is 65,504.

    """
    for precision in PRECISIONS:
        if precision.dtype is dtype:
            return precision
    raise SupermaskError(f"dtype={dtype} has no certificate; give float64, float32 or bfloat16.")
