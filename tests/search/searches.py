"""The searches that the conformance suite holds to one contract: all that are registered, some in several ways."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from supermask.masking.budget import Global
from supermask.masking.granularity import Blocks, Channels, NofM
from supermask.masking.schedule import CubicRamp
from supermask.search import (
    SEARCHES,
    Anchored,
    Biprop,
    Coded,
    EdgePopup,
    Gates,
    GemMiner,
    IteRand,
    LearnedSupermask,
    MulticoatedSupermask,
    NodePerturbation,
    PartiallyFrozen,
    Search,
    SignedSupermask,
    StructuredPopup,
    TrichromaticSupermask,
)
from supermask.search.rule import BudgetedRule


@dataclass(frozen=True)
class Line:
    """A search with its options, and what it promises.

    Attributes:
        search: the class.
        options: besides model and seed.
        exact: whether round(density x n) weights of every layer are kept, whatever the density.
        total: whether round(density x all) weights of the network are.

    """

    search: type[Search]
    options: dict = field(default_factory=dict)
    exact: bool = False
    total: bool = False

    @property
    def make(self) -> Callable[..., Search]:
        return partial(self.search, **self.options)


STEPS = 12  # of a search in the suite, where it wants to know

LINES = {
    "edge_popup": Line(EdgePopup, {"density": 0.3}, exact=True),
    "edge_popup, global": Line(EdgePopup, {"density": 0.3, "scope": Global(1), "equalised": True}, total=True),
    "edge_popup, global, gradual": Line(
        EdgePopup, {"density": 0.3, "scope": Global(1), "schedule": CubicRamp(4)}, total=True
    ),
    "anchored": Line(Anchored, {"density": 0.3, "price": 0.01}, exact=True),
    "learned": Line(LearnedSupermask),
    "gates": Line(Gates, {"density": 0.3, "steps": STEPS}, exact=True),
    "coded": Line(Coded, {"bytes": 2000, "steps": STEPS, "memory": 6}),
    "learned, rounded": Line(LearnedSupermask, {"evaluated": "rounded", "rescaled": False}),
    "gem_miner": Line(GemMiner, {"density": 0.3, "steps": STEPS, "freeze_every": 3}),
    "iterand": Line(IteRand, {"density": 0.3, "every": 3, "rate": 0.5}, exact=True),
    "biprop": Line(Biprop, {"density": 0.3}, exact=True),
    "signed": Line(SignedSupermask, {"density": 0.3}, exact=True),
    "signed, by threshold": Line(SignedSupermask, {"threshold": 0.2}),
    "multicoated": Line(MulticoatedSupermask, {"density": 0.3}, exact=True),
    "trichromatic": Line(TrichromaticSupermask, {"density": 0.3}, exact=True),
    "trichromatic, global, gradual": Line(
        TrichromaticSupermask, {"density": 0.3, "scope": Global(1), "schedule": CubicRamp(4)}, total=True
    ),
    "partially_frozen": Line(PartiallyFrozen, {"density": 0.3}, exact=True),
    "channels": Line(StructuredPopup, {"density": 0.5, "structure": Channels("out")}),
    "blocks": Line(StructuredPopup, {"density": 0.3, "structure": Blocks(2, 3)}),
    "n of m": Line(StructuredPopup, {"structure": NofM(1, 3)}),
    "node_perturbation": Line(NodePerturbation, {"density": 0.3}, exact=True),
}
LINES |= {
    name: Line(search, {"density": 0.3} if issubclass(search.kind, BudgetedRule) else {})
    for name, search in SEARCHES.items()
    if search not in {line.search for line in LINES.values()}
}
