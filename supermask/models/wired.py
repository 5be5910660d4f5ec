"""Plain modules in a chain or a graph, where each reads what modules before it gave, or the input."""

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError

Sources = tuple[int, ...]
"""What a module reads: 0 is the input of the network, and n what its n-th module gives."""


class Add(nn.Module):
    """The sum of tensors of one shape, of any dtype."""

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return the sum, from left to right."""
        return reduce(add, tensors)


class Concatenate(nn.Module):
    """Tensors (batch, channels, ...) side by side along their channels."""

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return (batch, all channels, ...)."""
        return torch.cat(tensors, dim=1)


class InsertZeros(nn.Module):
    """Zeros between the pixels of images, so that a convolution over them is a transposed one.

    Args:
        stride: from one pixel to the next, in rows and in columns.

    Raises:
        ValueError: these are not two positive integers.

    """

    def __init__(self, stride: tuple[int, int]) -> None:
        super().__init__()
        if len(stride) != 2 or not all(type(step) is int and step > 0 for step in stride):
            raise ValueError(f"stride {stride} is not two positive integers")
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, channels, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1)."""
        (down, across), (high, wide) = self.stride, images.shape[2:]
        found = images.new_zeros(*images.shape[:2], (high - 1) * down + 1, (wide - 1) * across + 1)
        found[:, :, ::down, ::across] = images
        return found


class Chain(nn.Sequential):
    """Modules that each read what the one before gives, for inputs of one shape.

    Attributes:
        input_shape: of one input, without the batch; None, as of a part that was cut out, takes what its modules take.

    """

    input_shape: tuple[int, ...] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return what the last module gives.

        Raises:
            SupermaskError: the inputs have another shape.

        """
        if self.input_shape is not None:
            check_shape(input, self.input_shape, [*self][:1])
        found: Tensor = super().forward(input)
        return found


class Wired(nn.Sequential):
    """Modules in a graph, named as those of an `nn.Sequential`; the last one gives the output.

    Args:
        modules: in an order in which each comes behind what it reads.
        sources: of each module.

    Attributes:
        input_shape: of one input, without the batch; None takes what the modules take.

    Raises:
        SupermaskError: a module reads nothing, or what comes behind it.

    """

    input_shape: tuple[int, ...] | None = None

    def __init__(self, modules: Sequence[nn.Module], sources: Sequence[Sources]) -> None:
        if not len(modules) == len(sources) > 0:
            raise SupermaskError(f"There are {len(modules)} modules and sources of {len(sources)}; give one for each.")
        for place, reads in enumerate(sources):
            if not reads or not all(0 <= source <= place for source in reads):
                raise SupermaskError(f"Module {place + 1} reads {list(reads)}; give numbers from 0 to {place}.")
        super().__init__(*modules)
        self.sources = tuple(map(tuple, sources))
        last = {source: place for place, reads in enumerate(sources) for source in reads}
        # what no later module reads is let go: skips would else keep all hidden tensors in memory
        self._done = [[source for source in set(reads) if last[source] == place] for place, reads in enumerate(sources)]

    def forward(self, input: Tensor) -> Tensor:
        """Return what the last module gives.

        Raises:
            SupermaskError: the inputs have another shape.

        """
        if self.input_shape is not None:
            readers = (module for module, reads in zip(self, self.sources, strict=True) if 0 in reads)
            check_shape(input, self.input_shape, readers)
        given: dict[int, Tensor] = {0: input}
        for place, module in enumerate(self):
            given[place + 1] = module(*(given[source] for source in self.sources[place]))
            for source in self._done[place]:
                del given[source]
        return given[len(self.sources)]


def wired(
    modules: Sequence[nn.Module], sources: Sequence[Sources], input_shape: Sequence[int] | None = None
) -> nn.Sequential:
    """Return the modules as a graph, or as a chain where each reads just the one before it.

    Args:
        modules: in an order in which each comes behind what it reads.
        sources: of each module.
        input_shape: of one input without the batch, where inputs of other shapes are to be refused.

    """
    chain = all(reads == (place,) for place, reads in enumerate(sources))
    if chain and input_shape is None:
        return nn.Sequential(*modules)
    network = Chain(*modules) if chain else Wired(modules, sources)
    network.input_shape = None if input_shape is None else tuple(input_shape)
    return network


def check_shape(inputs: Tensor, shape: Sequence[int], readers: Iterable[object]) -> None:
    """Refuse inputs of another shape than a network is for: convolutions and poolings would run on them too.

    Args:
        inputs: (batch, *shape).
        shape: of one input, without the batch.
        readers: the modules that read them; where all of them flatten first, only how many numbers there are counts.

    Raises:
        SupermaskError: they have another shape.

    """
    # torch.fx follows a forward pass with something that is no tensor and has no sizes
    if not isinstance(inputs, Tensor) or tuple(inputs.shape[1:]) == tuple(shape):
        return
    flat = all(isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1) for module in readers)
    if not (flat and inputs.dim() > 1 and math.prod(inputs.shape[1:]) == math.prod(shape)):
        wanted, found = (f"({', '.join(map(str, sizes))})" for sizes in (("batch", *shape), inputs.shape))
        raise SupermaskError(f"The network is for inputs of shape {wanted}, not {found}; give inputs of that shape.")


def sources_of(network: nn.Sequential) -> tuple[Sources, ...]:
    """Return what each module reads."""
    return network.sources if isinstance(network, Wired) else tuple((place,) for place in range(len(network)))
