"""What layer normalisation, activations and softmax do to bounds: Lipschitz constants, and their rounding in float64.

Rounding is that of any order of sums, with elementary functions (exp, erf, root) within four units in the last place.
"""

import torch
from torch import Tensor

from theory.attention.parts import Activate, Normalise
from theory.norms import SLACK
from theory.precision import FLOAT64

GELU_SLOPE = 1.1290
"""The largest slope of x Phi(x) is Phi(r) + r phi(r) = 1.12890... at r = root of 2."""


def slope(part: Activate) -> float:
    """Return a Lipschitz constant of an activation."""
    return 1.0 if part.kind == "relu" else GELU_SLOPE


def activation_rounding(part: Activate, reach: Tensor) -> Tensor:
    """Return a bound of what an activation of tokens of these norms rounds by."""
    return reach * (0.0 if part.kind == "relu" else FLOAT64.sums(16)) + FLOAT64.tiny


def normalised_slope(part: Normalise, least: Tensor) -> Tensor:
    """Return a Lipschitz constant of a normalisation where centred tokens have at least these norms.

    With z the centred token it is z root(d) / R, R = root(|z|^2 + d eps). Its Jacobian, root(d) (1 / R - z z^T / R^3),
    has no eigenvalue above root(d) / R. Centring moves no two tokens further apart.
    """
    return (part.units**0.5 / (least.square() + part.units * part.eps).sqrt()) * SLACK


def normalised_rounding(part: Normalise, reach: Tensor, least: Tensor) -> Tensor:
    """Return a bound of what a normalisation rounds by.

    The mean and what is left of a token are off by their sums, and the variance too, relative to the whole token and
    not to what is left: so that it holds for one pass over squares as well.

    Args:
        part: the normalisation.
        reach: bounds of the norms of tokens.
        least: of centred tokens, bounds from below.

    """
    units, sums = part.units, FLOAT64.sums(part.units + 16)
    centred = 4.0 * sums * reach
    variance = 4.0 * sums * reach.square() / units
    true = (least - centred).clamp(min=0.0).square() / units + part.eps
    relative = torch.where(variance < true, variance / (true - variance), torch.inf)
    shrunk = normalised_slope(part, (least - centred).clamp(min=0.0)) * centred
    return (shrunk + units**0.5 * (relative + 16.0 * FLOAT64.adds)) * SLACK


def moved_weights(weights: Tensor, moves: Tensor, highest: Tensor | None = None) -> Tensor:
    """Return by how much weights of a softmax change at most when no score changes by more than it may.

    p'_u = p_u e^(c_u) / sum of p_w e^(c_w), with |c_w| <= moves_w, so p'_u / p_u is between e^-moves_u over the largest
    sum and e^moves_u over the least.

    Args:
        weights: (..., keys), computed; those of keys that are not read are 0.
        moves: (..., keys), of the scores.
        highest: what the weights may be, where they are known up to that; the bound is for all of them.

    """
    highest = weights if highest is None else highest
    moves = torch.where(highest > 0.0, moves, 0.0)
    shrink, growth = -torch.expm1(-moves), torch.expm1(moves)
    # the weights add up to 1, so neither mean is above the largest
    lost = torch.minimum((highest * shrink).sum(dim=-1), shrink.amax(dim=-1)).clamp(max=1.0)[..., None]
    gained = torch.minimum((highest * growth).sum(dim=-1), growth.amax(dim=-1))[..., None]
    up = (growth + lost) / (1.0 - lost)
    down = (shrink + gained) / (1.0 + gained)
    ratio = torch.maximum(up, down).nan_to_num(nan=torch.inf)
    return torch.where(highest > 0.0, (highest * ratio * SLACK).clamp(max=1.0), 0.0)
