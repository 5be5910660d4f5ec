"""Weight correlation (Liu et al. 2021): whether the largest weights of one network are the largest of another.

A ticket that wins only where training hardly moves the weights shows it here: the initial weights and the trained ones
then rank alike. Each indicator comes with what independent networks would show, and how far chance carries them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune

Weights = nn.Module | Mapping[str, Tensor]
"""A network, or its weights by name (a state dictionary will do)."""

TWO_SIDED_95 = 1.959964
"""Standard deviations of a normal distribution that hold 95 % of it, to either side."""


@dataclass(frozen=True)
class Layer:
    """The overlap of one layer.

    Attributes:
        weights: that were ranked.
        taken: how many of the largest were taken, of each of the two networks.
        shared: how many of these are the same.

    """

    weights: int
    taken: int
    shared: int

    @property
    def chance(self) -> float:
        """The overlap that is expected of independent rankings: that of two random subsets."""
        return self.taken**2 / self.weights

    @property
    def variance(self) -> float:
        """The variance of that overlap, which is hypergeometric."""
        if self.weights < 2:
            return 0.0
        left = self.weights - self.taken
        return self.taken**2 * left**2 / (self.weights**2 * (self.weights - 1))


@dataclass(frozen=True)
class Correlation:
    """The indicator R_p of two networks.

    Attributes:
        fraction: the p, of the weights of each layer that are ranked.
        layers: the overlap of each layer, by name.

    """

    fraction: float
    layers: Mapping[str, Layer]

    @property
    def taken(self) -> int:
        """Weights that were taken, of all layers."""
        return sum(layer.taken for layer in self.layers.values())

    @property
    def value(self) -> float:
        """R_p: the share of the weights taken that both networks share, from 0 to 1."""
        return sum(layer.shared for layer in self.layers.values()) / self.taken

    @property
    def chance(self) -> float:
        """The value that is expected of independent networks: `fraction`, but for the rounding of the counts."""
        return math.fsum(layer.chance for layer in self.layers.values()) / self.taken

    @property
    def deviation(self) -> float:
        """The standard deviation of the value of independent networks."""
        return math.sqrt(math.fsum(layer.variance for layer in self.layers.values())) / self.taken

    @property
    def low(self) -> float:
        """Lower end of the interval that holds 95 % of the values of independent networks (normal approximation)."""
        return max(0.0, self.chance - TWO_SIDED_95 * self.deviation)

    @property
    def high(self) -> float:
        """Upper end of that interval."""
        return min(1.0, self.chance + TWO_SIDED_95 * self.deviation)

    @property
    def z(self) -> float:
        """Standard deviations from the value to that of chance; 0 where only one value is possible."""
        return (self.value - self.chance) / self.deviation if self.deviation else 0.0

    def text(self) -> str:
        """Return the indicator in words."""
        return (
            f"R_{self.fraction:g} = {self.value:.4f} (by chance {self.low:.4f} to {self.high:.4f}; z = {self.z:+.1f})"
        )

    def values(self) -> dict[str, float]:
        """Return plain values."""
        names = ("fraction", "value", "chance", "deviation", "low", "high", "z")
        return {name: getattr(self, name) for name in names}


def weight_correlation(
    first: Weights, second: Weights, *, fraction: float, masks: Mapping[str, Tensor] | None = None
) -> Correlation:
    """Return the correlation indicator R_p of two networks (Liu et al. 2021).

    In each layer the weights are ranked by magnitude, ties go to the lowest flat index, and round(fraction * n) of n
    are taken. The indicator is the share of these that both networks take. The paper divides by fraction * n; here it
    is divided by the counts that were really taken, so that a network has exactly 1 with itself. It does not change
    when a layer of a network is multiplied by a positive factor.

    Two networks of one mask are compared with `masks`: both are ranked among the weights that are kept. A dense
    network can be the second of them, and is read at these weights alone. Without masks the whole layers are ranked,
    and pruned weights, which are zero, come last. A sparse network is compared with a whole dense one in this way, as
    in the paper, and `fraction` must then not exceed the density of any layer.

    Args:
        first: a network or weights by name; prunable weights are its floating tensors of two or more dimensions.
        second: the same layers.
        fraction: the p of the paper, of the ranked weights of each layer, in (0, 1].
        masks: bool, of the weights that are ranked, by name; layers without a mask are then left out.

    Raises:
        SupermaskError: the layers differ, a weight is NaN, the fraction is out of range or takes no weight, or it
            takes pruned weights of one network and not of the other.

    """
    if not 0.0 < fraction <= 1.0:
        raise SupermaskError(f"fraction={fraction} is out of range; give the share of the weights to rank, in (0, 1].")
    one, other = (_magnitudes(weights, masks) for weights in (first, second))
    _check(one, other, masks)
    ranked = {name: int(masks[name].sum()) if masks else tensor.numel() for name, tensor in one.items()}
    taken = {name: round(fraction * count) for name, count in ranked.items()}
    if not any(taken.values()):
        raise SupermaskError(f"fraction={fraction} takes no weight of any layer; give a larger one.")
    _refuse_zeros(one, other, taken, fraction, masks)
    pools = [Pool((name,), count) for name, count in taken.items()]
    mine, theirs = (prune(magnitudes, pools, masks) for magnitudes in (one, other))
    shared = {name: int((mine[name] & theirs[name]).sum()) for name in one}
    layers = {name: Layer(ranked[name], taken[name], shared[name]) for name in one if ranked[name]}
    return Correlation(fraction, layers)


def _magnitudes(weights: Weights, masks: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return the magnitudes that are ranked, on the CPU."""
    tensors = dict(weights.named_parameters()) if isinstance(weights, nn.Module) else weights
    missing = [name for name in masks or {} if name not in tensors]
    if missing:
        raise SupermaskError(f"A network has no weights for the masks of {', '.join(missing)}; give masks of its own.")
    chosen = masks or [name for name, tensor in tensors.items() if tensor.ndim >= 2 and tensor.is_floating_point()]
    return {name: tensors[name].detach().abs().cpu() for name in chosen}


def _check(one: Mapping[str, Tensor], other: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None) -> None:
    shapes, others = ({name: tuple(tensor.shape) for name, tensor in each.items()} for each in (one, other))
    for name in [*shapes, *others]:
        if shapes.get(name) != others.get(name):
            raise SupermaskError(
                f"The weights of {name} are {shapes.get(name, 'missing')} in the first network and"
                f" {others.get(name, 'missing')} in the second; compare networks of one architecture."
            )
        if masks and (tuple(masks[name].shape) != shapes[name] or masks[name].dtype != torch.bool):
            raise SupermaskError(f"The mask of {name} is not a bool tensor of shape {shapes[name]}.")
        if bool(one[name].isnan().any() | other[name].isnan().any()):
            raise SupermaskError(f"The weights of {name} hold NaN, which has no rank; give networks without it.")
    if not shapes:
        raise SupermaskError("There is no weight of two or more dimensions to compare.")


def _refuse_zeros(
    one: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    taken: Mapping[str, int],
    fraction: float,
    masks: Mapping[str, Tensor] | None,
) -> None:
    """Refuse a sparse and a dense network where pruned weights of the sparse one would be taken by their index."""
    for name, count in taken.items():
        left = masks[name].cpu() if masks else torch.ones_like(one[name], dtype=torch.bool)
        there = [int((weights[name][left] > 0).sum()) for weights in (one, other)]
        # where both run out of weights they may be the same network, which is 1 with itself
        if min(there) < count <= max(there):
            raise SupermaskError(
                f"fraction={fraction} takes {count:,} weights of {name}, and one network has only {min(there):,} that"
                " are not zero; give a fraction up to its density, or masks."
            )
