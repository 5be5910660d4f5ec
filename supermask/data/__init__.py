"""Data sets: pixels as they are stored, a validation split drawn by seed, a test set that is read once."""

from supermask.data.augmentation import CropAndFlip
from supermask.data.batches import draw_generator, epoch_order, step_generator
from supermask.data.data_set import DataSet, Examples
from supermask.data.registry import known, load

__all__ = ["CropAndFlip", "DataSet", "Examples", "draw_generator", "epoch_order", "known", "load", "step_generator"]
