"""The order of the examples and the randomness of a step, stateless so that a resumed run sees the same."""

import numpy as np
import torch
from torch import Tensor

from supermask.random.keyed import keyed_generator, keyed_permutation


def epoch_order(n: int, *, seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch visits n examples: a permutation of 0..n-1, int64, shape (n,), CPU.

    It depends on (n, seed, epoch) alone and leaves the global generators of torch and numpy untouched.
    """
    return torch.from_numpy(keyed_permutation(n, seed, "epoch order", epoch))


def step_generator(seed: int, step: int) -> np.random.Generator:
    """Return a fresh generator for the augmentation of one optimizer step."""
    return keyed_generator(seed, "augmentation", step)


def draw_generator(seed: int, step: int) -> np.random.Generator:
    """Return a fresh generator for what `DataSet.draw` draws at one optimizer step.

    It is another stream than that of the augmentation, which draws the same whether or not a task draws too.
    """
    return keyed_generator(seed, "drawn examples", step)
