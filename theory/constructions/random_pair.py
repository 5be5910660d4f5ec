"""The random network that is pruned: two layers for each layer of the target, drawn once from a seed.

Each input of a target layer, and its bias, has a block of `width` hidden units of its own. The first hop of a block is
shared by all outputs, the second hop is private to each (Pensia et al. 2020, proof of theorem 1). In a convolution the
units are channels, the first hop is 1 by 1 and the second has the target's window (da Cunha et al. 2022).

A dense first hop is a full random matrix, and the mask keeps only its blocks; the bias's block stands on random
biases. A grouped first hop has only the blocks, as a grouped convolution, for targets whose full matrices would not fit
into memory; the bias's block stands on an input that is constant 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.random.distributions import Distribution, Fans, SignedConstant, Uniform, UniformInteger
from supermask.random.weights import RandomWeight, grow_all
from theory.target import Matrix, Target, TargetLayer

Mask = NDArray[np.bool_]

MOST_WEIGHTS = 2**30
"""Random weights of a network at most: the masked copy in float64 alone takes 8 GiB then."""


@dataclass(frozen=True, eq=False)
class Paths:
    """The paths through a pair of random layers: hidden units in blocks, one block per input and one for the bias.

    Attributes:
        hop: what each unit makes of the one input that it reads, float64 (columns, width); the last column is that of
            the bias, where there is one.
        second: what each output reads of it, (outputs, columns, width, taps), float32 in a random network that is still
            to be pruned and float64 in the masked one.

    """

    hop: Matrix
    second: NDArray[np.floating]


@dataclass(frozen=True)
class Widths:
    """Hidden units per input (and per bias) of a target layer, and the law of its weights, as `RandomPair` has it."""

    width: int
    scale: float
    integers: int | None = None
    constant: float = 1.0


@dataclass(frozen=True, eq=False)
class RandomPair:
    """The two random layers that stand for one layer of the target.

    Attributes:
        layer: of the target.
        width: hidden units per input.
        scale: the second hop is uniform on [-scale, scale], the first on [-1, 1].
        grouped: whether the first hop has only the blocks.
        first: name of the module of the first hop in the random network.
        second: name of that of the second hop.
        integers: of a network of integers: the second hop is uniform on -integers to integers, the first has random
            signs.
        constant: what the bias's block reads in the place of 1.

    """

    layer: TargetLayer
    width: int
    scale: float
    grouped: bool
    first: str = ""
    second: str = ""
    integers: int | None = None
    constant: float = 1.0

    @property
    def columns(self) -> int:
        """Blocks: one per input and one for the bias."""
        return self.layer.inputs + (self.layer.bias is not None)

    @property
    def hidden(self) -> int:
        """Hidden units."""
        return self.columns * self.width

    def weights(self) -> dict[str, RandomWeight]:
        """Return what the random tensors are made of, by parameter name."""
        layer, ones = self.layer, (1, 1) if self.layer.convolutional else (1,) * self.grouped
        reads = 1 if self.grouped else layer.inputs
        into, out = Fans(reads, self.hidden), Fans(self.hidden * layer.taps, layer.outputs * layer.taps)
        window = layer.window if layer.convolutional else ()
        first: Distribution = Uniform(1.0)
        second: Distribution = Uniform(1.0)
        if self.integers is not None:
            # signs of size 1: the root of the fan-in over itself
            first, second = SignedConstant(math.sqrt(reads)), UniformInteger(self.integers)
        weights = {f"{self.first}.weight": RandomWeight((self.hidden, reads, *ones), first, into)}
        if layer.bias is not None and not self.grouped:
            weights[f"{self.first}.bias"] = RandomWeight((self.hidden,), first, into, scale=self.constant)
        shape = (layer.outputs, self.hidden, *window)
        weights[f"{self.second}.weight"] = RandomWeight(shape, second, out, scale=self.scale)
        return weights

    def paths(self, tensors: Mapping[str, Tensor]) -> Paths:
        """Return the paths through the blocks, from the pair's random or masked tensors by name."""
        second = tensors[f"{self.second}.weight"].detach().numpy()
        return Paths(self._hop(tensors), second.reshape(self.layer.outputs, self.columns, self.width, self.layer.taps))

    def masks(self, hop: Mask, second: Mask) -> dict[str, Tensor]:
        """Return masks by parameter name, from those of the paths: (columns, width) and (outputs, ..., taps)."""
        shapes = {name: weight.shape for name, weight in self.weights().items()}
        kept = torch.from_numpy(second).reshape(shapes[f"{self.second}.weight"])
        if self.grouped:
            first = torch.from_numpy(hop).reshape(shapes[f"{self.first}.weight"])
            return {f"{self.first}.weight": first, f"{self.second}.weight": kept}
        inputs = self.layer.inputs
        first = torch.zeros(self.hidden, inputs, dtype=torch.bool)
        units = torch.arange(inputs * self.width)
        first[units, units // self.width] = torch.from_numpy(hop[:inputs].reshape(-1))
        masks = {f"{self.first}.weight": first.reshape(shapes[f"{self.first}.weight"])}
        if self.layer.bias is not None:
            bias = torch.zeros(self.hidden, dtype=torch.bool)
            bias[inputs * self.width :] = torch.from_numpy(hop[inputs])
            masks[f"{self.first}.bias"] = bias
        return {**masks, f"{self.second}.weight": kept}

    def modules(self, *, relu: bool) -> tuple[list[nn.Module], nn.Module, list[nn.Module], nn.Module]:
        """Return what prepares the input, the first hop, what stands between the hops, and the second hop."""
        layer, bias = self.layer, self.layer.bias is not None
        between: list[nn.Module] = [nn.ReLU()] if relu else []
        if layer.convolutional:
            second: nn.Module = nn.Conv2d(
                self.hidden, layer.outputs, layer.window, stride=layer.stride, dilation=layer.dilation, bias=False
            )
            if self.grouped:
                one: list[nn.Module] = [nn.ConstantPad3d((0, 0, 0, 0, 0, 1), self.constant)] if bias else []
                return one, _grouped(nn.Conv2d, self), between, second
            return [], nn.Conv2d(layer.inputs, self.hidden, 1, bias=bias), between, second
        second = nn.Linear(self.hidden, layer.outputs, bias=False)
        if self.grouped:
            one = [nn.ConstantPad1d((0, 1), self.constant)] if bias else []
            split = nn.Unflatten(1, (self.columns, 1))
            return [*one, split], _grouped(nn.Conv1d, self), [*between, nn.Flatten()], second
        return [], nn.Linear(layer.inputs, self.hidden, bias=bias), between, second

    def _hop(self, tensors: Mapping[str, Tensor]) -> Matrix:
        """Return what each unit makes of its own block's input, (columns, width)."""
        weight = tensors[f"{self.first}.weight"].detach().numpy()
        if self.grouped:
            hop = weight.reshape(self.columns, self.width).astype(np.float64)
            hop[self.layer.inputs :] *= self.constant
            return hop
        inputs = np.arange(self.layer.inputs)
        blocks = weight[: len(inputs) * self.width].reshape(len(inputs), self.width, len(inputs))
        hop = blocks[inputs, :, inputs]
        if self.layer.bias is not None:
            bias = tensors[f"{self.first}.bias"].detach().numpy()
            hop = np.concatenate([hop, bias[None, -self.width :]])
        return hop.astype(np.float64)


def check_blocks(pair: RandomPair, tensors: Mapping[str, Tensor]) -> None:
    """Check that each hidden unit of a masked pair reads its own block's input and nothing else."""
    names = [name for name in tensors if name.startswith(f"{pair.first}.")]
    reads = sum(int(tensors[name].count_nonzero()) for name in names)
    assert reads == np.count_nonzero(pair.paths(tensors).hop), "a hidden unit reads more than its own input"


def empty_network(
    target: Target, widths: Sequence[Widths], *, relu: bool, grouped: bool
) -> tuple[nn.Sequential, list[RandomPair]]:
    """Return the module of the random network in float64 without its weights, and its pairs.

    Args:
        target: whose steps it has too.
        widths: of the pairs.
        relu: whether a ReLU stands between the hops of a pair.
        grouped: whether first hops have only the blocks.

    Raises:
        SupermaskError: it would have more than MOST_WEIGHTS weights.

    """
    modules, pairs = [step.module for step in target.before], []
    for layer, chosen in zip(target.layers, widths, strict=True):
        pair = RandomPair(layer, grouped=grouped, **vars(chosen))
        with torch.device("meta"):  # the ticket brings the weights, and memory may not suffice
            before, first, between, second = pair.modules(relu=relu)
        place = len(modules) + len(before)
        modules += [*before, first, *between, second, *(step.module for step in layer.after)]
        pairs.append(replace(pair, first=str(place), second=str(place + 1 + len(between))))
    _check_memory(pairs)
    network = nn.Sequential(*modules).double()
    # not to_empty, for which torch imports sympy, a second of CPU time
    empty = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in network.state_dict().items()}
    network.load_state_dict(empty, assign=True)
    return network, pairs


def draw(pairs: Sequence[RandomPair], seed: int) -> tuple[dict[str, RandomWeight], dict[str, Tensor]]:
    """Draw the random network, once; return what its tensors are made of, and the tensors, by parameter name."""
    weights: dict[str, RandomWeight] = {}
    for pair in pairs:
        weights |= pair.weights()
    return weights, grow_all(weights, seed)


def _grouped(kind: type[nn.Conv1d] | type[nn.Conv2d], pair: RandomPair) -> nn.Module:
    return kind(pair.columns, pair.hidden, 1, groups=pair.columns, bias=False)


def _check_memory(pairs: Sequence[RandomPair]) -> None:
    count = sum(weight.count for pair in pairs for weight in pair.weights().values())
    if count > MOST_WEIGHTS:
        remedy = "give a smaller width" if pairs[0].grouped else "give grouped=True, or a smaller width"
        raise SupermaskError(
            f"The random network has {count:,} weights, more than the {MOST_WEIGHTS:,} that are built; {remedy}."
        )
