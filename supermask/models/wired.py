"""Plain modules in a graph: each reads what modules before it gave, or the input."""

from collections.abc import Sequence
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


class Wired(nn.Sequential):
    """Modules in a graph, named as those of an `nn.Sequential`; the last one gives the output.

    Args:
        modules: in an order in which each comes behind what it reads.
        sources: of each module.

    Raises:
        SupermaskError: a module reads nothing, or what comes behind it.

    """

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
        """Return what the last module gives."""
        given: dict[int, Tensor] = {0: input}
        for place, module in enumerate(self):
            given[place + 1] = module(*(given[source] for source in self.sources[place]))
            for source in self._done[place]:
                del given[source]
        return given[len(self.sources)]


def wired(modules: Sequence[nn.Module], sources: Sequence[Sources]) -> nn.Sequential:
    """Return the modules as a graph, as a plain `nn.Sequential` where each reads just the one before it."""
    if all(reads == (place,) for place, reads in enumerate(sources)):
        return nn.Sequential(*modules)
    return Wired(modules, sources)


def sources_of(network: nn.Sequential) -> tuple[Sources, ...]:
    """Return what each module reads."""
    return network.sources if isinstance(network, Wired) else tuple((place,) for place in range(len(network)))
