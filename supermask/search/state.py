"""What a search is in the middle of: its random network, its layers, its step."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.kernels.top_k import Sgd, Trained, Weights
from supermask.masking.parametrization import Masked
from supermask.masking.progress import Progress
from supermask.masking.selection import Selection
from supermask.ticket.random_network import RandomNetwork

T = TypeVar("T")


class SearchState:
    """All of a search that its rule may read and write.

    Args:
        network: the random network, before its layers are masked.
        signed: whether masks are selected by ranks with their sign or by magnitudes.
        about: plain values by which a state of this search is known, by name.

    Attributes:
        network: the random network and the roles of its parameters.
        seed: of the random weights and of all that the search draws.
        shapes: of the masked weights by parameter name, in the model's order.
        layers: the masked weights by parameter name, in the model's order.
        progress: what of the search stands in the model's own state.
        handover: of the gradients, to an optimizer that makes those of the scores itself; the last one, or None.

    """

    def __init__(self, network: RandomNetwork, *, signed: bool, about: Mapping[str, Any]) -> None:
        self.network, self.seed, self.shapes = network, network.seed, network.shapes
        self.layers: dict[str, Masked] = {}
        self.progress = Progress({**about, "digest": network.digest})
        self._selection = Selection(signed=signed)
        self.handover: Handover | None = None
        self._remembered: tuple[float, object] | None = None
        self._written: _Written | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""
        return self.progress.steps

    def hand_over(self) -> "Handover":
        """Let the gradients of masked weights reach the scores as they are, until the handover ends."""
        if self.handover is not None:
            self.handover.end()
        self.handover = Handover(self.layers)
        return self.handover

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
        written = self._what_is_written()
        self._selection.select(pools, ranks, written.masks, written.followers)
        kept = self._selection.kept()
        for name in written.rescaled:
            self.layers[name].rescale(kept.get(name))
        for name in written.refreshed:
            self.layers[name].refresh()

    def _what_is_written(self) -> "_Written":
        """Return what a selection writes: the same for as long as the layers have the same tensors."""
        tensors = [tensor for layer in self.layers.values() for tensor in layer._buffers.values()]
        known = self._written
        if known is None or len(known.tensors) != len(tensors) or not all(map(is_, known.tensors, tensors)):
            pairs = {name: layer.weights for name, layer in self.layers.items()}
            followers = {name: pair for name, pair in pairs.items() if pair is not None}
            rescaled = [name for name in followers if self.layers[name].scaled_for is not None]
            refreshed = [name for name in self.layers if name not in followers]
            known = self._written = _Written(tensors, self.masks, followers, rescaled, refreshed)
        return known

    def descend(self, trained: Sequence[Trained], sgd: Sgd) -> None:
        """Take a step of SGD on the scores of all layers, before they are selected."""
        self._selection.descend(trained, sgd)

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


class _Written(NamedTuple):
    """What a selection writes.

    Attributes:
        tensors: the buffers of all layers; the other attributes were made from them.
        masks: by parameter name.
        followers: the weights that follow the masks by themselves, by parameter name.
        rescaled: the names of those whose gain follows too.
        refreshed: the names of the other layers.

    """

    tensors: list[Tensor | None]
    masks: dict[str, Tensor]
    followers: dict[str, Weights]
    rescaled: list[str]
    refreshed: list[str]


class Handover:
    """The time in which scores take the gradients of their masked weights as they are.

    Args:
        layers: the masked weights, whose backward passes change until the `end`.

    """

    def __init__(self, layers: Mapping[str, Masked]) -> None:
        self._layers = layers
        self._stepped = False
        self._versions: list[int] = []
        for layer in layers.values():
            layer.handed = True

    def stepped(self) -> None:
        """Say that the optimizer has changed the scores."""
        self._stepped = True

    def check(self, scores: Iterable[Tensor]) -> None:
        """Look at what changed the scores since the last call.

        Raises:
            SupermaskError: something else did, to which their gradients look like those of scores.

        """
        if not self._layers:
            return
        versions = [score._version for score in scores]
        if self._versions and versions != self._versions and not self._stepped:
            raise SupermaskError(
                "The scores were changed by something else than the optimizer of fused_sgd, for which their gradients"
                " are made; step that one, or call its release() first."
            )
        self._versions, self._stepped = versions, False

    def forget(self) -> None:
        """Let a change of the scores pass: a state was loaded."""
        self._versions = []

    def end(self) -> None:
        """Let backward passes be those of scores again, unless that was done before."""
        for layer in self._layers.values():
            layer.handed = False
        self._layers = {}
