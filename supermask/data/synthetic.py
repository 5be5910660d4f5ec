"""A small learnable set made of nothing but fixed keys: for tests and demonstrations."""

from functools import partial

import numpy as np
import torch

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import nothing_of, pixel_statistics
from supermask.random.keyed import keyed_bytes


def read_synthetic(
    *,
    classes: int = 10,
    input_shape: tuple[int, int, int] = (1, 8, 8),
    train: int = 1000,
    test: int = 200,
) -> DataSet:
    """Return noisy copies of one prototype image per class, the same at every call and on every machine.

    A prototype's pixels are uniform on 64..191; the noise is uniform on -128..127 and the sum is clipped to
    0..255, so at the default shape the nearest class mean is right for most images, but not for all.
    Example i has the label i modulo classes.
    """
    draw = partial(_draw, classes, input_shape)
    examples = draw("train", train)
    mean, std = pixel_statistics(examples.images, 255.0)
    return DataSet(
        name="synthetic",
        classes=classes,
        input_shape=input_shape,
        scale=255.0,
        mean=mean,
        std=std,
        train=examples,
        validation=nothing_of(examples),
        read_test=partial(draw, "test", test),
    )


def _draw(classes: int, shape: tuple[int, int, int], part: str, count: int) -> Examples:
    labels = np.arange(count) % classes
    # the part is not in this key: training and test must share their prototypes
    prototypes = 64 + keyed_bytes((classes, *shape), 0, "synthetic prototypes").astype(np.int64) // 2
    # int64 before the subtraction, which would wrap around in uint8
    noise = keyed_bytes((count, *shape), 0, "synthetic noise", part).astype(np.int64) - 128
    pixels = np.clip(prototypes[labels] + noise, 0, 255).astype(np.uint8)
    return Examples(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))
