"""Searches: one file per algorithm that finds a strong ticket."""

from supermask.search.anchored import Anchored
from supermask.search.biprop import Biprop
from supermask.search.coded import Coded
from supermask.search.edge_popup import EdgePopup
from supermask.search.frozen import PartiallyFrozen
from supermask.search.gates import Gates
from supermask.search.gem_miner import GemMiner
from supermask.search.iterand import IteRand
from supermask.search.learned import LearnedSupermask
from supermask.search.multicoated import MulticoatedSupermask
from supermask.search.node_perturbation import NodePerturbation
from supermask.search.registry import SEARCHES
from supermask.search.search import Search
from supermask.search.signed import SignedSupermask
from supermask.search.structured import StructuredPopup
from supermask.search.trichromatic import TrichromaticSupermask

__all__ = [
    "SEARCHES",
    "Anchored",
    "Biprop",
    "Coded",
    "EdgePopup",
    "Gates",
    "GemMiner",
    "IteRand",
    "LearnedSupermask",
    "MulticoatedSupermask",
    "NodePerturbation",
    "PartiallyFrozen",
    "Search",
    "SignedSupermask",
    "StructuredPopup",
    "TrichromaticSupermask",
]
