"""Layer collapse (Tanaka et al. 2020, sections 3 and 4): how far a method prunes before it empties a layer, and why."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import Shapes

Masks = Mapping[str, Tensor]


def compression(masks: Masks) -> float:
    """Return the compression ratio rho: prunable weights over kept ones; infinite if none is kept."""
    kept = sum(int(mask.sum()) for mask in masks.values())
    return sum(mask.numel() for mask in masks.values()) / kept if kept else math.inf


def collapsed_layers(masks: Masks) -> tuple[str, ...]:
    """Return the names of the layers that have weights and keep none."""
    return tuple(name for name, mask in masks.items() if mask.numel() and not bool(mask.any()))


def maximal_compression(shapes: Shapes) -> float:
    """Return rho_max, which leaves one weight in each layer: the number of weights over that of layers.

    Args:
        shapes: of the prunable weights, by layer.

    """
    total, layers = _counts(shapes)
    return total / layers


def critical_compression(choose: Callable[[float], Masks], shapes: Shapes) -> float:
    """Return rho_cr of a method: the largest compression at which every layer still keeps a weight.

    Exact to one weight for a method that empties no layer at a density if it empties none at a smaller one. Of any
    other method it is a compression that collapses nothing, while one weight less does.

    Args:
        choose: density to masks, e.g. the first of what `AtInitialisation.choose` returns; called once
            where it empties no layer in vain, and else about log2(number of weights) times.
        shapes: of the prunable weights, by layer.

    Returns:
        Between 1 and `maximal_compression(shapes)`, to which it is equal where a layer is never emptied in vain.

    """
    total, layers = _counts(shapes)
    # the largest compression first: a method that passes there needs no search
    if not collapsed_layers(choose(layers / total)):
        return total / layers
    empty, sound = layers, total
    # with `empty` weights some layer is empty, with `sound` none is; the two close in on the border
    while sound - empty > 1:
        middle = (empty + sound) // 2
        if collapsed_layers(choose(middle / total)):
            empty = middle
        else:
            sound = middle
    return total / sound


@dataclass(frozen=True)
class Flow:
    """The sums of a saliency in a chain of layers.

    Attributes:
        incoming: of the weights into each unit (a channel, of a convolution), a tensor per layer but the last.
        outgoing: of the weights out of the same units.
        layers: of all weights of each layer.

    """

    incoming: tuple[Tensor, ...]
    outgoing: tuple[Tensor, ...]
    layers: tuple[Tensor, ...]


def saliency_flow(saliencies: Sequence[Tensor]) -> Flow:
    """Return what flows into and out of each hidden unit of a chain, and through each layer.

    A saliency of the form dR/dw * w, for any function R of the outputs, is conserved where the activations are
    homogeneous (ReLU, pooling) and there are no biases: incoming equals outgoing in every unit (Tanaka et al. 2020,
    theorem 1), and all layers have the same sum (theorem 2). SNIP before its magnitude is taken and SynFlow are of
    that form, magnitude is not.

    Args:
        saliencies: of the weights of linear layers and convolutions in the order that they run, each (out, in, ...);
            between a convolution and a linear layer the channels are flattened, channel first.

    Raises:
        SupermaskError: a layer does not take what the one before gives.

    """
    incoming = [saliency.flatten(1).sum(1) for saliency in saliencies[:-1]]
    outgoing = [_outgoing(saliency, len(units)) for units, saliency in zip(incoming, saliencies[1:], strict=True)]
    return Flow(tuple(incoming), tuple(outgoing), tuple(saliency.sum() for saliency in saliencies))


def _outgoing(saliency: Tensor, units: int) -> Tensor:
    inputs = saliency.shape[1]
    if not units or inputs % units:
        raise SupermaskError(
            f"A layer of {inputs} inputs follows one of {units} outputs; give the layers of a chain, in order."
        )
    return saliency.transpose(0, 1).reshape(units, -1).sum(1)


def _counts(shapes: Shapes) -> tuple[int, int]:
    """Return the number of weights and the number of layers that have any."""
    sizes = [size for shape in shapes.values() if (size := math.prod(shape))]
    if not sizes:
        raise SupermaskError("No layer has weights; give the shapes of the prunable ones.")
    return sum(sizes), len(sizes)
