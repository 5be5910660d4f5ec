"""Every search by name: a new one is a file beside this and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from supermask.search.anchored import AnchoredRule
from supermask.search.biprop import BipropRule
from supermask.search.coded import CodedRule
from supermask.search.edge_popup import EdgePopupRule
from supermask.search.frozen import PartiallyFrozenRule
from supermask.search.gates import GatesRule
from supermask.search.gem_miner import GemMinerRule
from supermask.search.iterand import IteRandRule
from supermask.search.learned import LearnedRule
from supermask.search.multicoated import MulticoatedRule
from supermask.search.node_perturbation import NodePerturbationRule
from supermask.search.rule import Rule
from supermask.search.search import Search
from supermask.search.signed import SignedRule
from supermask.search.structured import StructuredRule
from supermask.search.trichromatic import TrichromaticRule

RULES: tuple[type[Rule], ...] = (
    EdgePopupRule,
    LearnedRule,
    GemMinerRule,
    IteRandRule,
    BipropRule,
    SignedRule,
    MulticoatedRule,
    PartiallyFrozenRule,
    StructuredRule,
    GatesRule,
    AnchoredRule,
    CodedRule,
    TrichromaticRule,
    NodePerturbationRule,
)
"""The rule of every search."""

SEARCHES: Mapping[str, type[Search]] = MappingProxyType({rule.name: Search.by(rule) for rule in RULES})
"""Every search by name."""
assert len(SEARCHES) == len(RULES), "two searches have one name"
assert all(rule.__doc__ for rule in RULES), "a search says nothing of itself"
