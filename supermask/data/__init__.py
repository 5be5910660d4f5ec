"""Data sets: examples as they are stored, a validation split drawn by seed, a test set that is read once."""

from supermask.data.augmentation import CropAndFlip, Warp
from supermask.data.batches import draw_generator, epoch_order, step_generator
from supermask.data.data_set import DataSet, Examples
from supermask.data.loaders import Loaders
from supermask.data.registry import known, load
from supermask.data.tensors import from_tensors

__all__ = [
    "CropAndFlip",
    "DataSet",
    "Examples",
    "Loaders",
    "Warp",
    "draw_generator",
    "epoch_order",
    "from_tensors",
    "known",
    "load",
    "step_generator",
]
