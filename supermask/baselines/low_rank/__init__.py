"""Low-rank training: layers as products of two thinner ones."""

from supermask.baselines.low_rank.pufferfish import Pufferfish

__all__ = ["Pufferfish"]
