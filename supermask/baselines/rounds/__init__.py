"""Magnitude pruning after training, in one round or many."""

from supermask.baselines.rounds.lottery import IMP, IMPRewind, OneShot
from supermask.baselines.rounds.retraining import FineTune, Han, LearningRateRewind
from supermask.baselines.rounds.scratch import ScratchB, ScratchE

__all__ = ["IMP", "FineTune", "Han", "IMPRewind", "LearningRateRewind", "OneShot", "ScratchB", "ScratchE"]
