"""Magnitude pruning after training, in one round or many."""

from supermask.baselines.rounds.lottery import Imp, ImpRewind, OneShot
from supermask.baselines.rounds.retraining import FineTune, Han, LearningRateRewind
from supermask.baselines.rounds.scratch import ScratchB, ScratchE

__all__ = ["FineTune", "Han", "Imp", "ImpRewind", "LearningRateRewind", "OneShot", "ScratchB", "ScratchE"]
