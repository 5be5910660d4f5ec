"""The random network that is pruned: two layers for each layer of the target, drawn once from a seed.

Each input of a target layer, and its bias, has a block of `width` hidden units of its own. The first hop of a block is
shared by all outputs, the second hop is private to each (Pensia et al. 2020, proof of theorem 1). In a convolution the
units are channels, the first hop is 1 by 1 and the second has the target's window (da Cunha et al. 2022).

A dense first hop is a full random matrix, and the mask keeps only its blocks; the bias's block stands on random
biases. A grouped first hop has only the blocks, as a grouped convolution, for targets whose full matrices would not fit
into memory; the bias's block stands on an input that is constant 1. Where the target's convolution is grouped, both
hops have its groups, each with blocks for its inputs and one for its biases, and the first hop is dense within them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.models.wired import Sources, wired
from supermask.random.distributions import Distribution, Fans, SignedConstant, Uniform, UniformInteger
from supermask.random.transform import Preset
from supermask.random.weights import RandomWeight, grow_all
from theory.target import Matrix, Target, TargetLayer

Mask = NDArray[np.bool_]

MOST_WEIGHTS = 2**30
"""Random weights of a network at most: the masked copy in float64 alone takes 8 GiB then."""


@dataclass(frozen=True, eq=False)
class Paths:
    """The paths through a pair of random layers: hidden units in blocks, one block per input and one for the bias.

    Attributes:
        hop: what each unit makes of the one input that it reads, float64 (columns, width), group by group; the last
            column of a group is that of the bias, where there is one.
        second: what each output reads of its group, (outputs, columns / groups, width, taps), float32 in a random
            network that is still to be pruned and float64 in the masked one.

    """

    hop: Matrix
    second: NDArray[np.floating]


@dataclass(frozen=True)
class Widths:
    """Hidden units per input (and per bias) of a target layer, and the law of its weights, as `RandomPair` has it."""

    width: int
    scale: float
    signs: bool = False
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
        signs: whether weights have random signs alone: the first hop is +-1, the second +-scale.
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
    signs: bool = False
    integers: int | None = None
    constant: float = 1.0

    @property
    def each(self) -> int:
        """Blocks of one group: one per input and one for the bias."""
        return self.layer.reads + (self.layer.bias is not None)

    @property
    def columns(self) -> int:
        """Blocks of all groups."""
        return self.layer.groups * self.each

    @property
    def hidden(self) -> int:
        """Hidden units."""
        return self.columns * self.width

    @property
    def only_blocks(self) -> bool:
        """Whether the first hop has nothing but the blocks."""
        return self.grouped and self.layer.groups == 1

    def weights(self) -> dict[str, RandomWeight]:
        """Return what the random tensors are made of, by parameter name."""
        layer, ones = self.layer, (1, 1) if self.layer.convolutional else (1,) * self.only_blocks
        reads = 1 if self.only_blocks else layer.reads
        hidden, outputs = self.hidden // layer.groups, layer.outputs // layer.groups
        into, out = Fans(reads, hidden), Fans(hidden * layer.taps, outputs * layer.taps)
        window = layer.window if layer.convolutional else ()
        first: Distribution = Uniform(1.0)
        second: Distribution = Uniform(1.0)
        if self.signs or self.integers is not None:
            first = SignedConstant(math.sqrt(reads))  # of size 1: the root of the fan-in over itself
            second = SignedConstant(math.sqrt(hidden * layer.taps))
        if self.integers is not None:
            second = UniformInteger(self.integers)
        weights = {f"{self.first}.weight": RandomWeight((self.hidden, reads, *ones), first, into)}
        if layer.bias is not None and not self.only_blocks:
            weights[f"{self.first}.bias"] = RandomWeight((self.hidden,), first, into, scale=self.constant)
        shape = (layer.outputs, hidden, *window)
        weights[f"{self.second}.weight"] = RandomWeight(shape, second, out, scale=self.scale)
        return weights

    def paths(self, tensors: Mapping[str, Tensor]) -> Paths:
        """Return the paths through the blocks, from the pair's random or masked tensors by name."""
        second = tensors[f"{self.second}.weight"].detach().numpy()
        return Paths(self._hop(tensors), second.reshape(self.layer.outputs, self.each, self.width, self.layer.taps))

    def masks(self, hop: Mask, second: Mask) -> dict[str, Tensor]:
        """Return masks by parameter name, from those of the paths: (columns, width) and (outputs, ..., taps)."""
        shapes = {name: weight.shape for name, weight in self.weights().items()}
        kept = torch.from_numpy(second).reshape(shapes[f"{self.second}.weight"])
        if self.only_blocks:
            first = torch.from_numpy(hop).reshape(shapes[f"{self.first}.weight"])
            return {f"{self.first}.weight": first, f"{self.second}.weight": kept}
        reads, blocks = self.layer.reads, torch.from_numpy(hop).reshape(self.layer.groups, self.each, self.width)
        first = torch.zeros(self.layer.groups, self.each, self.width, reads, dtype=torch.bool)
        for read in range(reads):
            first[:, read, :, read] = blocks[:, read]
        masks = {f"{self.first}.weight": first.reshape(shapes[f"{self.first}.weight"])}
        if self.layer.bias is not None:
            bias = torch.zeros_like(blocks)
            bias[:, reads] = blocks[:, reads]
            masks[f"{self.first}.bias"] = bias.reshape(-1)
        return {**masks, f"{self.second}.weight": kept}

    def modules(self, *, slope: float) -> tuple[list[nn.Module], nn.Module, list[nn.Module], nn.Module]:
        """Return what prepares the input, the first hop, what stands between the hops, and the second hop."""
        layer, bias = self.layer, self.layer.bias is not None
        between: list[nn.Module] = [nn.ReLU() if slope == 0.0 else nn.LeakyReLU(slope)] if slope < 1.0 else []
        if layer.convolutional:
            second: nn.Module = nn.Conv2d(
                self.hidden, layer.outputs, layer.window, layer.stride, dilation=layer.dilation, groups=layer.groups,
                bias=False,
            )  # fmt: skip
            if self.only_blocks:
                one: list[nn.Module] = [nn.ConstantPad3d((0, 0, 0, 0, 0, 1), self.constant)] if bias else []
                return one, _grouped(nn.Conv2d, self), between, second
            return [], nn.Conv2d(layer.inputs, self.hidden, 1, groups=layer.groups, bias=bias), between, second
        second = nn.Linear(self.hidden, layer.outputs, bias=False)
        if self.grouped:
            one = [nn.ConstantPad1d((0, 1), self.constant)] if bias else []
            split = nn.Unflatten(1, (self.columns, 1))
            return [*one, split], _grouped(nn.Conv1d, self), [*between, nn.Flatten()], second
        return [], nn.Linear(layer.inputs, self.hidden, bias=bias), between, second

    def _hop(self, tensors: Mapping[str, Tensor]) -> Matrix:
        """Return what each unit makes of its own block's input, (columns, width)."""
        weight = tensors[f"{self.first}.weight"].detach().numpy()
        if self.only_blocks:
            hop = weight.reshape(self.columns, self.width).astype(np.float64)
            hop[self.layer.inputs :] *= self.constant
            return hop
        shape, reads = (self.layer.groups, self.each, self.width), np.arange(self.layer.reads)
        hop = weight.reshape(*shape, len(reads))[:, reads, :, reads].swapaxes(0, 1)
        if self.layer.bias is not None:
            bias = tensors[f"{self.first}.bias"].detach().numpy().reshape(shape)
            hop = np.concatenate([hop, bias[:, len(reads) :]], axis=1)
        return hop.reshape(self.columns, self.width).astype(np.float64)


def check_blocks(pair: RandomPair, tensors: Mapping[str, Tensor]) -> None:
    """Check that each hidden unit of a masked pair reads its own block's input and nothing else."""
    names = [name for name in tensors if name.startswith(f"{pair.first}.")]
    reads = sum(int(tensors[name].count_nonzero()) for name in names)
    assert reads == np.count_nonzero(pair.paths(tensors).hop), "a hidden unit reads more than its own input"


def empty_network(
    target: Target, widths: Sequence[Widths], *, slope: float, grouped: bool
) -> tuple[nn.Sequential, list[RandomPair]]:
    """Return the module of the random network in float64 without its weights, and its pairs.

    Args:
        target: whose steps it has too.
        widths: of the pairs.
        slope: of negative numbers between the hops of a pair: 0 of a ReLU, 1 where nothing stands there.
        grouped: whether first hops have only the blocks.

    Raises:
        SupermaskError: it would have more than MOST_WEIGHTS weights.

    """
    modules: list[nn.Module] = []
    sources: list[Sources] = []
    pairs: list[RandomPair] = []
    outlets = [0]  # which module of the network gives what the input and each node of the target give
    chosen = iter(widths)

    def put(module: nn.Module, reads: Sources) -> Sources:
        modules.append(module)
        sources.append(reads)
        return (len(modules),)

    for node in target.nodes:
        reads = tuple(outlets[source] for source in node.sources)
        if isinstance(node.operation, TargetLayer):
            width = next(chosen)
            pair = RandomPair(node.operation, grouped=grouped, **vars(width))
            with torch.device("meta"):  # the ticket brings the weights, and memory may not suffice
                before, first, between, second = pair.modules(slope=slope)
            for module in (*before, first, *between, second):
                reads = put(module, reads)
            place = len(modules) - 1
            pairs.append(replace(pair, first=str(place - 1 - len(between)), second=str(place)))
        else:
            reads = put(node.operation.module, reads)
        outlets.append(reads[0])
    weights = {name: weight for pair in pairs for name, weight in pair.weights().items()}
    check_memory(weights, "give a smaller width" if grouped else "give grouped=True, or a smaller width")
    network = wired(modules, sources, target.input_shape).double()
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


def absent(weights: Mapping[str, RandomWeight], density: float) -> dict[str, Preset]:
    """Return what the seed prunes of each tensor so that a share of its weights is there."""
    if density == 1.0:
        return {}
    return {name: Preset(weight.count - round(density * weight.count), 0) for name, weight in weights.items()}


def where_free(tensor: Tensor, preset: Preset | None, seed: int, name: str) -> Tensor:
    """Return a tensor with zeros where the seed prunes it."""
    return tensor if preset is None else tensor * preset.grow(seed, name, tuple(tensor.shape)).free


def _grouped(kind: type[nn.Conv1d] | type[nn.Conv2d], pair: RandomPair) -> nn.Module:
    return kind(pair.columns, pair.hidden, 1, groups=pair.columns, bias=False)


def check_memory(weights: Mapping[str, RandomWeight], remedy: str) -> None:
    """Refuse a random network that memory may not hold.

    Args:
        weights: of the network, by parameter name.
        remedy: what to do instead, for the message.

    Raises:
        SupermaskError: it has more than MOST_WEIGHTS weights.

    """
    count = sum(weight.count for weight in weights.values())
    if count > MOST_WEIGHTS:
        raise SupermaskError(
            f"The random network has {count:,} weights, more than the {MOST_WEIGHTS:,} that are built; {remedy}."
        )
