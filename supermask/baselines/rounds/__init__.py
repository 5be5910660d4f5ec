"""Pruning after training, by magnitude or by curvature, in one round or many."""

from supermask.baselines.rounds.brain_damage import OptimalBrainDamage
from supermask.baselines.rounds.lottery import IMP, IMPRewind, OneShot
from supermask.baselines.rounds.retraining import FineTune, Han, LearningRateRewind
from supermask.baselines.rounds.scratch import ScratchB, ScratchE

__all__ = [
    "IMP",
    "FineTune",
    "Han",
    "IMPRewind",
    "LearningRateRewind",
    "OneShot",
    "OptimalBrainDamage",
    "ScratchB",
    "ScratchE",
]
