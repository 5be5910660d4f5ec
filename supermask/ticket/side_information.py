"""What the seed of a ticket tells of its masks, so that their code need not say it again.

A search keeps a weight the more likely the higher its first score was, and the better its sign agrees with that which
the weights around it say is wanted; both come of the seed (see `coding`). Decoding then depends on the random weights,
and they are held against their digest first.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from supermask.errors import TicketError
from supermask.random.stream import Stream
from supermask.random.weights import checked_seed, digest, from_descriptions, grow_all
from supermask.ticket.coding import Hints, make_hints


class Known:
    """The random weights behind masks, as far as a header describes them; grown when they are first asked for.

    Args:
        header: of a ticket.
        checked: hold the weights against their digest.

    Raises:
        SupermaskError: the header describes weights that cannot be.

    """

    def __init__(self, header: Mapping[str, Any], *, checked: bool) -> None:
        described = all(key in header for key in ("seed", "weights", "distributions", "digest"))
        self._header, self._checked = header, checked
        self._weights = from_descriptions(header) if described else {}
        self._grown = dict[str, Tensor]()

    def hints(self, name: str, shape: tuple[int, ...]) -> Hints | None:
        """Return what gives the hints of a mask, None where its weight is unknown."""
        weight = name if name in self._weights else name.rpartition("/")[2]
        if weight not in self._weights or self._weights[weight].shape != shape:
            return None
        return lambda: self._hints(weight)

    def _hints(self, name: str) -> NDArray[np.uint16]:
        seed = checked_seed(self._header["seed"])
        if not self._grown:
            self._grown = grow_all(self._weights, seed)
            if self._checked and digest(self._grown) != self._header["digest"]:
                raise TicketError(
                    "its masks cannot be read without its random weights, and those regrown from the seed are others;"
                    " it was made by another version of the generator."
                )
        words = Stream(seed, name, "scores").words(self._weights[name].count)
        return make_hints(self._grown[name].numpy(), words)
