"""Methods whose mask changes while the network is trained, in one training."""

from supermask.baselines.during_training.admm import ADMM
from supermask.baselines.during_training.gradual import Gradual
from supermask.baselines.during_training.hard_concrete import L0
from supermask.baselines.during_training.rigl import RigL
from supermask.baselines.during_training.set import SET
from supermask.baselines.during_training.variational_dropout import VariationalDropout

__all__ = ["ADMM", "L0", "SET", "Gradual", "RigL", "VariationalDropout"]
