"""Layers as products of two thinner ones, and the ranks that leave a number of weights."""

import math
from collections.abc import Mapping

import torch
from torch import nn

from supermask.errors import SupermaskError

Factorable = nn.Linear | nn.Conv2d


def can_be_factored(module: nn.Module) -> bool:
    """Whether a layer is one that `factored` takes: linear, or a convolution without groups."""
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)


@torch.no_grad()
def factored(layer: Factorable, rank: int) -> nn.Sequential:
    """Return the layer as two, W = U V^T with U and V of `rank` columns, the nearest to it by the squared error.

    The singular values are shared by both, U sqrt(S) and sqrt(S) V^T. The first factor of a convolution (o, i, k, k)
    has its kernel and `rank` channels, the second is 1x1 and has the bias; nothing is between them.

    Args:
        layer: linear, or a convolution without groups; left as it is.
        rank: from 1 to the smaller side of W as a matrix (o, i k k).

    """
    weight = layer.weight
    left, values, right = torch.linalg.svd(weight.double().flatten(1), full_matrices=False)
    root = values[:rank].sqrt()
    second, first = left[:, :rank] * root, root[:, None] * right[:rank]
    if isinstance(layer, nn.Linear):
        pair: tuple[Factorable, Factorable] = (
            nn.Linear(layer.in_features, rank, bias=False),
            nn.Linear(rank, layer.out_features, bias=layer.bias is not None),
        )
    else:
        pair = (
            nn.Conv2d(
                layer.in_channels,
                rank,
                layer.kernel_size,  # type: ignore[arg-type]  # torch keeps the pair that it was given
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                bias=False,
                padding_mode=layer.padding_mode,
            ),
            nn.Conv2d(rank, layer.out_channels, 1, bias=layer.bias is not None),
        )
    result = nn.Sequential(*pair).to(weight.device, weight.dtype)
    pair[0].weight.copy_(first.view(rank, *weight.shape[1:]))
    pair[1].weight.copy_(second.view(pair[1].weight.shape))
    if layer.bias is not None and pair[1].bias is not None:
        pair[1].bias.copy_(layer.bias)
    return result


def with_factors(model: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """Replace layers of a model by their factors, in place, and return it.

    Args:
        model: plain.
        ranks: by the name of a layer.

    """
    for name, rank in ranks.items():
        parent, _, leaf = name.rpartition(".")
        layer = model.get_submodule(name)
        assert isinstance(layer, Factorable)
        setattr(model.get_submodule(parent), leaf, factored(layer, rank))
    return model


def factor_weights(shape: tuple[int, ...], rank: int) -> int:
    """Return the weights of a layer (o, i, ...) as two factors."""
    return rank * (shape[0] + math.prod(shape[1:]))


def ranks_at(shapes: Mapping[str, tuple[int, ...]], ratio: float) -> dict[str, int]:
    """Return the rank of each layer that takes fewer weights with it than whole.

    Args:
        shapes: of the weights, by layer, (o, i, ...).
        ratio: of the rank to the smaller of o and i, rounded half to even; at least 1.

    """
    ranks = {name: max(1, round(ratio * min(shape[:2]))) for name, shape in shapes.items()}
    return {name: rank for name, rank in ranks.items() if factor_weights(shapes[name], rank) < math.prod(shapes[name])}


def ranks_for(shapes: Mapping[str, tuple[int, ...]], weights: int) -> tuple[float, dict[str, int]]:
    """Return the largest ratio, and its ranks, at which all layers together take at most so many weights.

    Args:
        shapes: of the weights, by layer, (o, i, ...).
        weights: at most, of the layers that may be factored.

    Raises:
        SupermaskError: rank 1 in every layer takes more.

    """

    def size(ratio: float) -> int:
        ranks = ranks_at(shapes, ratio)
        return sum(
            factor_weights(shape, ranks[name]) if name in ranks else math.prod(shape) for name, shape in shapes.items()
        )

    if size(0.0) > weights:
        raise SupermaskError(
            f"Rank 1 in every layer takes {size(0.0):,} weights, and the density leaves {max(0, weights):,} for them;"
            " give a larger density, or keep fewer layers whole."
        )
    low, high = 0.0, 1.0
    # ranks are whole numbers, so that 40 halvings tell all ratios apart
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= weights else (low, middle)
    ratio = high if size(high) <= weights else low
    return ratio, ranks_at(shapes, ratio)
