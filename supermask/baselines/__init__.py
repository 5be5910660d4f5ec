"""What tickets are compared with."""

from supermask.baselines.at_initialisation import (
    GraSP,
    MagnitudeAtInitialisation,
    RandomERK,
    RandomSmartRatio,
    RandomUniform,
    Snip,
    SynFlow,
)
from supermask.baselines.dense import Dense
from supermask.baselines.random_mask import RandomMask
from supermask.baselines.sparse import Sparse

__all__ = [
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
