"""The graph of plain modules while it is read: modules are put behind what is there, one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from supermask.errors import SupermaskError
from theory.graph.shape_check import Incoming, shape_after


@dataclass(eq=False)
class Wiring:
    """Plain modules, what each of them reads, and the shapes between them.

    A value is numbered as in `supermask.models.wired`: 0 is the input, n what the n-th module gives.

    Attributes:
        modules: in an order in which each comes behind what it reads.
        sources: of each module.
        shapes: of each value.
        shared: values that several operations of the target read, so that nothing may be folded into them.

    """

    shapes: list[Incoming]
    modules: list[nn.Module] = field(default_factory=list)
    sources: list[tuple[int, ...]] = field(default_factory=list)
    shared: set[int] = field(default_factory=set)

    def add(self, module: nn.Module, sources: Sequence[int], width: int | None = None) -> int:
        """Put a module behind what it reads, and return the number of what it gives.

        Raises:
            SupermaskError: it does not take what comes to it; a bare fact, without a name and a period.

        """
        shape = shape_after(module, [self.shapes[source] for source in sources], width)
        self.modules.append(module)
        self.sources.append(tuple(sources))
        self.shapes.append(shape)
        return len(self.modules)

    @property
    def has_layers(self) -> bool:
        """Whether there is a layer with weights."""
        return any(isinstance(module, nn.Linear | nn.Conv2d) for module in self.modules)


@dataclass(eq=False)
class Branch:
    """Some values of a graph that one operation of the target reads, behind which its modules are put.

    Attributes:
        wiring: the graph.
        name: of the operation, as the user knows it.
        reads: the values; after each `append` what the new module gives.

    """

    wiring: Wiring
    name: str
    reads: tuple[int, ...]

    @property
    def shape(self) -> Incoming:
        """Shape of the first value."""
        return self.wiring.shapes[self.reads[0]]

    def layer(self) -> nn.Module | None:
        """Return the layer that gives the value, into which may be folded; None where there is none for it alone."""
        module, before = self._giver(self.reads[0])
        if isinstance(module, nn.Flatten) and _is_of_one_row(self.wiring.shapes[before]):
            module, _ = self._giver(before)
        return module if isinstance(module, nn.Linear | nn.Conv2d) else None

    def append(self, module: nn.Module, width: int | None = None) -> None:
        """Put a module behind the values, and go on behind that.

        Raises:
            SupermaskError: it does not take what comes to it.

        """
        try:
            self.reads = (self.wiring.add(module, self.reads, width),)
        except SupermaskError as error:
            raise SupermaskError(f"The target's {self.name} {error}.") from None

    def _giver(self, value: int) -> tuple[nn.Module | None, int]:
        """Return the module that gives a value that it alone reads, and what that module reads."""
        if not value or value in self.wiring.shared:
            return None, 0
        return self.wiring.modules[value - 1], self.wiring.sources[value - 1][0]


def _is_of_one_row(shape: Incoming) -> bool:
    """Whether a flattening leaves the units of this shape what they are: a sequence as an image, or single pixels."""
    return shape is not None and len(shape) == 3 and shape[1] == 1
