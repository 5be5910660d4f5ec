"""Weights of one magnitude as bits: 1 where the sign is plus."""

from typing import NamedTuple

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking import kernels


class Signs(NamedTuple):
    """Weights +-c.

    Attributes:
        bits: uint8 (ceil(n / 8),); weight i of n, in row-major order, is bit i % 8 of entry i // 8, lowest bit first.
        magnitude: c, of the weights' dtype and without dimensions.

    """

    bits: Tensor
    magnitude: Tensor


def pack(weights: Tensor, name: str) -> Signs:
    """Return the bits of weights that all have one magnitude, which is not zero.

    Raises:
        SupermaskError: they have not; the name is that of the parameter.

    """
    flat = weights.reshape(-1)
    magnitude = flat[:1].abs().sum()
    if not bool(((flat.abs() == magnitude) & (flat != 0)).all()):
        raise SupermaskError(f"{name} cannot be packed into bits: only weights='signed_constant' have one magnitude.")
    positive = torch.nn.functional.pad((flat > 0).to(torch.uint8), (0, -flat.numel() % 8)).view(-1, 8)
    powers = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device=flat.device)
    return Signs((positive * powers).sum(1, dtype=torch.uint8), magnitude)


def unpack(signs: Signs, like: Tensor) -> Tensor:
    """Return the weights as a row-major tensor of the shape and dtype of another."""
    out = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    kernels.write_signs(signs.bits, signs.magnitude, out)
    return out
