"""What tickets are compared with."""

from supermask.baselines.at_initialisation import (
    SNIP,
    ConcreteTickets,
    GraSP,
    MagnitudeAtInitialisation,
    RandomERK,
    RandomSmartRatio,
    RandomUniform,
    SynFlow,
)
from supermask.baselines.dense import Dense
from supermask.baselines.random_mask import RandomMask
from supermask.baselines.sparse import Sparse

Snip = SNIP  # the name by which others import it from here
__all__ = [
    "SNIP",
    "ConcreteTickets",
    "Dense",
    "GraSP",
    "MagnitudeAtInitialisation",
    "RandomERK",
    "RandomMask",
    "RandomSmartRatio",
    "RandomUniform",
    "Snip",
    "Sparse",
    "SynFlow",
]
