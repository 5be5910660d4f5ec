"""The random network that is pruned: two layers for each layer of the target, drawn once from a seed.

Each input of a target layer, and its bias, has a block of `width` hidden units of its own. The first hop of a block is
shared by all outputs, the second hop is private to each (Pensia et al. 2020, proof of theorem 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from supermask.distributions import Fans, Uniform
from supermask.random_weights import RandomWeight, grow_all
from theory.target import Layer, Matrix


@dataclass(frozen=True)
class Widths:
    """Hidden units per input (and per bias) of each target layer, and the scale of its second hop."""

    width: int
    scale: float


@dataclass(frozen=True, eq=False)
class RandomPair:
    """The two random layers that stand for one target layer, as they are before pruning.

    Attributes:
        first: float64 (hidden, inputs), uniform on [-1, 1].
        offset: float64 (hidden,), uniform on [-1, 1], the random biases of the hidden units; None without a bias.
        second: float64 (outputs, hidden), uniform on [-scale, scale].
        width: hidden units per input.

    """

    first: Matrix
    offset: Matrix | None
    second: Matrix
    width: int

    def block(self, column: int) -> slice:
        """Return the hidden units of an input; column = inputs is the block of the bias."""
        return slice(column * self.width, (column + 1) * self.width)


def random_weights(layers: Sequence[Layer], widths: Sequence[Widths], names: Sequence[str]) -> dict[str, RandomWeight]:
    """Return what the random tensors are made of, by parameter name; `names` are those of the Linear modules."""
    weights: dict[str, RandomWeight] = {}
    for i, (layer, chosen) in enumerate(zip(layers, widths, strict=True)):
        hidden = chosen.width * (layer.inputs + (layer.bias is not None))
        first, second = names[2 * i], names[2 * i + 1]
        into, out = Fans(layer.inputs, hidden), Fans(hidden, layer.outputs)
        weights[f"{first}.weight"] = RandomWeight((hidden, layer.inputs), Uniform(1.0), into)
        if layer.bias is not None:
            weights[f"{first}.bias"] = RandomWeight((hidden,), Uniform(1.0), into)
        weights[f"{second}.weight"] = RandomWeight((layer.outputs, hidden), Uniform(1.0), out, scale=chosen.scale)
    return weights


def empty_network(layers: Sequence[Layer], widths: Sequence[Widths], *, relu: bool, flatten: bool) -> nn.Sequential:
    """Return the module of the random network in float64: Linear, ReLU, Linear for each layer of the target.

    Args:
        layers: of the target.
        widths: of the random network.
        relu: whether a ReLU stands between the two hops.
        flatten: whether its inputs are flattened first, as the target does.

    """
    modules: list[nn.Module] = [nn.Flatten()] if flatten else []
    for layer, chosen in zip(layers, widths, strict=True):
        hidden = chosen.width * (layer.inputs + (layer.bias is not None))
        modules.append(nn.Linear(layer.inputs, hidden, bias=layer.bias is not None))
        modules += [nn.ReLU()] if relu else []
        modules.append(nn.Linear(hidden, layer.outputs, bias=False))
        modules += [nn.ReLU()] if layer.relu else []
    return nn.Sequential(*modules).double()


def linear_names(network: nn.Sequential) -> list[str]:
    """Return the names of the Linear modules, in their order."""
    return [name for name, module in network.named_children() if isinstance(module, nn.Linear)]


def draw(
    weights: dict[str, RandomWeight], names: Sequence[str], widths: Sequence[Widths], seed: int
) -> tuple[list[RandomPair], dict[str, Tensor]]:
    """Draw the random network, once; return its pairs of layers and its tensors by name."""
    grown = grow_all(weights, seed)
    pairs = []
    for i, chosen in enumerate(widths):
        first, second = names[2 * i], names[2 * i + 1]
        offset = grown.get(f"{first}.bias")
        pairs.append(
            RandomPair(
                _float64(grown[f"{first}.weight"]),
                None if offset is None else _float64(offset),
                _float64(grown[f"{second}.weight"]),
                chosen.width,
            )
        )
    return pairs, grown


def _float64(tensor: Tensor) -> Matrix:
    values: Matrix = tensor.numpy().astype(np.float64)
    return values
