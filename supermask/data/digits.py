"""The 8x8 handwritten digits that scikit-learn carries with it: real data without a download."""

import torch

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import divide, nothing_of, pixel_statistics

TEST_EXAMPLES = 360  # a fifth
WHITE = 16.0  # a pixel counts the dark ones of 4 x 4


def read_digits() -> DataSet:
    """Return the 1,797 digits of `sklearn.datasets.load_digits`, 1,437 for training and 360 for testing.

    Pixels are 0..16. There is no official split: this one is a fixed permutation, the same for every seed, so
    that test accuracies of different seeds are of the same images.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    _, train = _parts()
    mean, std = pixel_statistics(train.images, WHITE)
    return DataSet(
        name="digits",
        classes=10,
        input_shape=(1, 8, 8),
        scale=WHITE,
        mean=mean,
        std=std,
        train=train,
        validation=nothing_of(train),
        read_test=lambda: _parts()[0],
    )


def _parts() -> tuple[Examples, Examples]:
    from sklearn.datasets import load_digits  # here: it takes a second to import and only this set needs it

    bunch = load_digits()
    # scikit-learn has them as float64, but all are integers from 0 to 16, so nothing is lost
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    everything = Examples(images, torch.from_numpy(bunch.target).to(torch.int64))
    return divide(everything, TEST_EXAMPLES, 0, "digits test split")
