"""Where the tokens are: sets of sequences over which a certificate of a transformer holds."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from supermask.errors import SupermaskError


@dataclass(frozen=True)
class TokenBall:
    """All sequences of tokens whose l2 norm is at most the radius; of a target that embeds, all sequences of ids.

    Args:
        radius: of the ball that each token is in.
        length: tokens at most. Only rounding grows with it.

    """

    radius: float = 1.0
    length: int = 1024

    def __post_init__(self) -> None:
        if not 0.0 < self.radius < math.inf:
            raise SupermaskError(f"radius={self.radius} must be a positive number.")
        if self.length < 1:
            raise SupermaskError(f"length={self.length} must be at least 1.")

    def __str__(self) -> str:
        return f"sequences of up to {self.length:,} tokens of norm {self.radius:g}"


@dataclass(frozen=True, eq=False)
class NearSequences:
    """All sequences each of whose tokens is within the radius (l2) of that of one of the given sequences.

    Args:
        sequences: tokens (sequences, T, units); of a target that embeds, ids (sequences, T), int64, and then the radius
            is that of what the embedding makes of an id, by which both networks are moved alike.
        radius: at least 0; at 0 the domain is the sequences themselves.

    """

    sequences: Tensor
    radius: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.radius < math.inf:
            raise SupermaskError(f"radius={self.radius} must be a number of at least 0.")
        given = self.sequences.detach().cpu()
        found = given.double() if given.is_floating_point() else given.long()
        if found.dim() != 2 + found.is_floating_point() or not found.numel():
            raise SupermaskError(
                f"The sequences have the shape {tuple(found.shape)}; give tokens (sequences, T, units), or ids"
                " (sequences, T)."
            )
        if not bool(torch.isfinite(found).all()):
            raise SupermaskError("The sequences hold NaN or infinity.")
        object.__setattr__(self, "sequences", found)

    def __str__(self) -> str:
        count, length = self.sequences.shape[:2]
        return f"within {self.radius:g} of {count:,} sequences of {length:,}"


Sequences: TypeAlias = TokenBall | NearSequences
