"""The one training loop: progress, metrics, checkpoints, resuming, and a test set that is read once."""

from supermask.training.batch_norm import reestimate
from supermask.training.evaluation import Score, evaluate
from supermask.training.interrupts import Stopped
from supermask.training.listeners import Listener, TensorBoard, WeightsAndBiases
from supermask.training.loop import Subject, train
from supermask.training.objective import Loss, Objective
from supermask.training.recipe import Recipe
from supermask.training.state import Outcome, State

__all__ = [
    "Listener",
    "Loss",
    "Objective",
    "Outcome",
    "Recipe",
    "Score",
    "State",
    "Stopped",
    "Subject",
    "TensorBoard",
    "WeightsAndBiases",
    "evaluate",
    "reestimate",
    "train",
]
