"""Structured pruning: which channels of a network depend on which, and their removal."""

from supermask.baselines.structured.cost import Cost, cost_of
from supermask.baselines.structured.removal import Removable
from supermask.baselines.structured.structure import Structure, narrow, remove_channels, structure_of

__all__ = ["Cost", "Removable", "Structure", "cost_of", "narrow", "remove_channels", "structure_of"]
