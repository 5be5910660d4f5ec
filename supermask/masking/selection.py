"""The k largest scores, exactly: the same mask on every device.

The tie rule: among equal scores the lowest flat (row-major) index is kept. On the CPU two counting passes over the
bit patterns find the k-th largest score without a sort; elsewhere a stable sort says the same.
"""

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking import _radix


def keep_largest(scores: Tensor, k: int) -> Tensor:
    """Return the mask of the k largest entries.

    Args:
        scores: real floating tensor of any shape and memory format; infinities are allowed, NaN is not.
        k: how many to keep, 0 <= k <= scores.numel().

    Returns:
        A bool tensor of the same shape and device, with exactly k entries True.

    Raises:
        SupermaskError: k is out of range, or a score is NaN.

    """
    if not 0 <= k <= scores.numel():
        raise SupermaskError(f"Cannot keep {k} of {scores.numel()} scores; keep from 0 to all of them.")
    flat = scores.detach().reshape(-1)  # row-major whatever the memory format
    if flat.device.type == "cpu" and flat.dtype is not torch.float64:
        mask = _keep_largest_by_radix(flat, k)
    else:
        mask = keep_largest_by_sort(flat, k)
    return mask.reshape(scores.shape)


def _keep_largest_by_radix(flat: Tensor, k: int) -> Tensor:
    keys = flat.float().contiguous().numpy().view("uint32")
    mask = torch.empty(flat.shape, dtype=torch.bool)
    nans = _radix.select(keys, k, mask.numpy())
    if nans:
        raise _nan_error(nans, flat.numel())
    return mask


def keep_largest_by_sort(flat: Tensor, k: int) -> Tensor:
    """Return the same mask by a stable sort of the 1-D scores: on any device, and the oracle of the tests."""
    nans = int(flat.isnan().sum())
    if nans:
        raise _nan_error(nans, flat.numel())
    # adding zero makes -0.0 equal 0.0 in its bits too
    order = torch.sort(flat + 0.0, descending=True, stable=True).indices
    mask = torch.zeros(flat.shape, dtype=torch.bool, device=flat.device)
    mask[order[:k]] = True
    return mask


def _nan_error(nans: int, count: int) -> SupermaskError:
    return SupermaskError(
        f"{nans} of {count} scores are NaN, so they have no largest; the training diverged: lower the learning rate."
    )
