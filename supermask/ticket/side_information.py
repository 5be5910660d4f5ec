"""What the seed of a ticket says of its masks, so that their code need not say it again.

A search keeps a weight the more likely the higher its first score was, and the better its sign agrees with the sign
that the weights around it want; score and sign both come from the seed (see `coding`). Decoding then depends on the
random weights, so they are first compared with their digest.
"""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from supermask.errors import TicketError
from supermask.random.stream import Stream
from supermask.random.weights import checked_seed, digest, from_descriptions, grow_all
from supermask.ticket.coding import SideInformation, make_side_information


class RegrownWeights:
    """The random weights behind masks, as far as a header describes them; grown when they are first asked for.

    Args:
        header: of a ticket.
        checked: compare the weights with their digest, for which all are grown. A writer does not need it: its masks
            can be read wherever the ticket can be used.

    Raises:
        SupermaskError: the header describes weights that cannot be.

    """

    def __init__(self, header: Mapping[str, Any], *, checked: bool) -> None:
        described = all(key in header for key in ("seed", "weights", "distributions", "digest"))
        self._header, self._checked = header, checked
        self._weights = from_descriptions(header) if described else {}
        self._grown = dict[str, Tensor]()
        self._made = dict[str, NDArray[np.uint16]]()
        self._growing = Lock()  # the layers of a file are read in several threads

    def side_information(self, name: str, shape: tuple[int, ...]) -> SideInformation | None:
        """Return what gives the side information of a weight, None if it is unknown; made at the first call."""
        if name not in self._weights or self._weights[name].shape != shape:
            return None
        return lambda: self._of(name)

    def _of(self, name: str) -> NDArray[np.uint16]:
        # kept, because the encoder compares several levels of it, and tasks in one file share their weights
        if name not in self._made:
            seed = checked_seed(self._header["seed"])
            words = Stream(seed, name, "scores").words(self._weights[name].count)
            self._made[name] = make_side_information(self._tensor(name, seed).numpy(), words)
        return self._made[name]

    def _tensor(self, name: str, seed: int) -> Tensor:
        if not self._checked:
            return self._weights[name].grow(seed, name)
        with self._growing:
            if not self._grown:
                grown = grow_all(self._weights, seed)
                if digest(grown) != self._header["digest"]:
                    raise TicketError(
                        "its masks cannot be read without its random weights, and those regrown from the seed are"
                        " others; it was made by another version of the generator."
                    )
                self._grown = grown
        return self._grown[name]
