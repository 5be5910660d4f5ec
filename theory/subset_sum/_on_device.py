"""Meet in the middle for one block of problems as a few large tensor operations, for a GPU."""

import torch
from torch import Tensor


def bytes_needed(n: int) -> int:
    """Return an upper bound of the bytes that one problem of n coefficients takes at a time."""
    return 64 * (1 << n // 2) + 80 * (1 << (n - n // 2))


def solve_block(coefficients: Tensor, targets: Tensor) -> Tensor:
    """Return the best mask (batch, n) for coefficients (batch, n) and targets (batch,), float64 on one device.

    The sums of the first half are sorted; each sum of the second half looks for the two neighbours of what is missing.
    """
    n = coefficients.shape[1]
    first, order = torch.sort(_sums(coefficients[:, : n // 2]), dim=1, stable=True)
    second = _sums(coefficients[:, n // 2 :])
    above = torch.searchsorted(first, targets[:, None] - second).clamp_(max=first.shape[1] - 1)
    below = (above - 1).clamp_(min=0)
    error_above = (first.gather(1, above) + second - targets[:, None]).abs_()
    error_below = (first.gather(1, below) + second - targets[:, None]).abs_()
    chosen = torch.where(error_below < error_above, below, above)
    bits_2 = torch.minimum(error_below, error_above).argmin(dim=1, keepdim=True)
    bits_1 = order.gather(1, chosen.gather(1, bits_2))
    digits = torch.arange(n, device=coefficients.device)
    return ((bits_1 + (bits_2 << (n // 2))) >> digits) & 1 == 1


def _sums(coefficients: Tensor) -> Tensor:
    """Return the sums of all subsets (batch, 2^n); the index, in binary, is the subset."""
    sums = coefficients.new_zeros(len(coefficients), 1)
    for coefficient in coefficients.unbind(1):
        sums = torch.cat([sums, sums + coefficient[:, None]], dim=1)
    return sums
