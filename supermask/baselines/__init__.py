"""What tickets are compared with."""

from supermask.baselines.dense import Dense
from supermask.baselines.random_mask import RandomMask

__all__ = ["Dense", "RandomMask"]
