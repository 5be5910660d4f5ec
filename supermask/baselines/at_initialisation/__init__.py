"""Pruning at initialisation: scores of an untrained network choose its mask, and what is left is trained."""

from supermask.baselines.at_initialisation.at_random import RandomERK, RandomSmartRatio, RandomUniform
from supermask.baselines.at_initialisation.base import AtInitialisation
from supermask.baselines.at_initialisation.concrete import ConcreteTickets
from supermask.baselines.at_initialisation.examples import ExampleSource
from supermask.baselines.at_initialisation.grasp import GraSP
from supermask.baselines.at_initialisation.magnitude import MagnitudeAtInitialisation
from supermask.baselines.at_initialisation.snip import SNIP
from supermask.baselines.at_initialisation.synflow import SynFlow

__all__ = [
    "SNIP",
    "AtInitialisation",
    "ConcreteTickets",
    "ExampleSource",
    "GraSP",
    "MagnitudeAtInitialisation",
    "RandomERK",
    "RandomSmartRatio",
    "RandomUniform",
    "SynFlow",
]
