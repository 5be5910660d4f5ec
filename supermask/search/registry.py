"""Every search by name: a new one is a file beside this and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from supermask.search.base import Search
from supermask.search.biprop import Biprop
from supermask.search.edge_popup import EdgePopup
from supermask.search.frozen import PartiallyFrozen
from supermask.search.gem_miner import GemMiner
from supermask.search.iterand import IteRand
from supermask.search.learned import LearnedSupermask
from supermask.search.multicoated import MulticoatedSupermask
from supermask.search.signed import SignedSupermask
from supermask.search.structured import StructuredPopup

_ALL: tuple[type[Search], ...] = (
    EdgePopup,
    LearnedSupermask,
    GemMiner,
    IteRand,
    Biprop,
    SignedSupermask,
    MulticoatedSupermask,
    PartiallyFrozen,
    StructuredPopup,
)
SEARCHES: Mapping[str, type[Search]] = MappingProxyType({search.name: search for search in _ALL})
"""Every search by name."""
assert len(SEARCHES) == len(_ALL), "two searches have one name"
assert all(search.__doc__ for search in _ALL), "a search says nothing of itself"
