"""Methods whose mask changes while the network is trained, in one training."""

from supermask.baselines.during_training.admm import ADMM
from supermask.baselines.during_training.gradual import Gradual
from supermask.baselines.during_training.rigl import RigL
from supermask.baselines.during_training.set import SET

__all__ = ["ADMM", "SET", "Gradual", "RigL"]
