"""What a search is in the middle of: its random network, its layers, its step."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from supermask.masking.budget import Pool
from supermask.masking.parametrization import Masked
from supermask.masking.selection import Selection
from supermask.ticket.random_network import RandomNetwork

T = TypeVar("T")


class SearchState:
    """All of a search that its rule may read and write.

    Args:
        network: the random network, before its layers are masked.
        signed: whether masks are selected by ranks with their sign or by magnitudes.

    Attributes:
        network: the random network and the roles of its parameters.
        seed: of the random weights and of all that the search draws.
        shapes: of the masked weights by parameter name, in the model's order.
        layers: the masked weights by parameter name, in the model's order.
        steps: optimizer steps so far.

    """

    def __init__(self, network: RandomNetwork, *, signed: bool) -> None:
        self.network, self.seed, self.shapes = network, network.seed, network.shapes
        self.layers: dict[str, Masked] = {}
        self.steps = 0
        self._selection = Selection(signed=signed)
        self._remembered: tuple[float, object] | None = None

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks by parameter name: bool tensors that a selection writes in place."""
        return {name: layer.mask for name, layer in self.layers.items()}

    def keep_largest(self, ranks: Mapping[str, Tensor], pools: Sequence[Pool]) -> None:
        """Let each pool keep its largest ranks: the masks and the masked weights are written.

        Args:
            ranks: by parameter name, tensors of the shapes of the weights; a NaN must stay NaN, so that it is found.
            pools: of the layers, with the number of weights that each keeps.

        Raises:
            SupermaskError: a rank is NaN, or a layer is emptied that must not be. On a GPU `check` raises it.

        """
        pairs = {name: layer.weights for name, layer in self.layers.items()}
        followers = {name: pair for name, pair in pairs.items() if pair is not None}
        self._selection.select(pools, ranks, self.masks, followers)
        for name, layer in self.layers.items():
            if name in followers:
                layer.rescale()
            else:
                layer.refresh()

    def select(self, ranks: Mapping[str, Tensor], pools: Sequence[Pool], masks: Mapping[str, Tensor]) -> None:
        """Write the masks of the largest ranks into other tensors than the layers' own; see `keep_largest`."""
        self._selection.select(pools, ranks, masks)

    def at_density(self, density: float, make: Callable[[], T]) -> T:
        """Return what `make` returns; it is called again only when the density is another than that of the last call.

        Nearly all searches keep one density, and pools are then the same in every step.
        """
        if self._remembered is None or self._remembered[0] != density:
            self._remembered = (density, make())
        made: T = self._remembered[1]  # type: ignore[assignment]  # of this search's one `make`
        return made

    def check(self) -> None:
        """Raise what the last selection on a GPU could not wait for."""
        self._selection.check()
