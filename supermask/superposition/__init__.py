"""Supermasks in superposition: many tasks in one random network, a mask for each, inferred by entropy.

Wortsman, Ramanujan, Liu, Kembhavi, Rastegari, Yosinski, Farhadi, NeurIPS 2020, arXiv 2006.14769.
"""

from supermask.superposition.learning import Fresh, Learner, RunningMean, Seen, Start, TaskFreeLearner
from supermask.superposition.measuring import Measured, measure
from supermask.superposition.network import Entropy, Objective, Superfluous
from supermask.superposition.superposition import Binary, EachMask, Inference, OneShot, Superposition

__all__ = [
    "Binary",
    "EachMask",
    "Entropy",
    "Fresh",
    "Inference",
    "Learner",
    "Measured",
    "Objective",
    "OneShot",
    "RunningMean",
    "Seen",
    "Start",
    "Superfluous",
    "Superposition",
    "TaskFreeLearner",
    "measure",
]
