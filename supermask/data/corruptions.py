"""Data with something taken away, to ask what a ticket takes from it: labels, detail, order, or half of the examples.

The sets of Frankle, Schwab & Morcos 2020 (random labels, blurred images, quarter turns), and of Su et al.
2020 (random labels, shuffled pixels, half of the data). Each is a `DataSet` with the statistics (mean, std) of the one
it was made from, whose test files are read when it is asked for its own test examples. They can be made of each other;
`quarter_turns` comes after what changes pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import divide, refuse_drawn
from supermask.data.tasks import with_images
from supermask.errors import DataError
from supermask.random.keyed import keyed_bits, keyed_permutation

_CHUNK = 1024  # images that are changed at once: all of them in float32 take four times their memory


def random_labels(data: DataSet, fraction: float = 1.0, *, seed: int) -> DataSet:
    """Return the set with new labels for a fraction of the training and the validation examples.

    Which examples get one is drawn, and so is the label: uniform over all classes, the true one too, so that on ten
    classes 0.9 of them change. Test examples keep their labels.

    Args:
        data: left as it is.
        fraction: of the examples that get a new label, in [0, 1].
        seed: of what is drawn.

    Raises:
        DataError: fraction is out of range, or the labels are drawn at each step.

    """
    if not 0.0 <= fraction <= 1.0:
        raise DataError(f"fraction={fraction} is out of range; give the share of the examples, from 0 to 1.")
    refuse_drawn(data, "labelled at random")

    def relabelled(part: str, examples: Examples) -> Examples:
        count = round(fraction * len(examples))
        chosen = torch.from_numpy(keyed_permutation(len(examples), seed, "randomly labelled", part))[:count]
        labels = examples.labels.clone()
        labels[chosen] = _uniform(data.classes, count, seed, "random labels", part)
        return Examples(examples.images, labels)

    train, validation = relabelled("train", data.train), relabelled("validation", data.validation)
    return replace(
        data, name=f"{data.name}, {100 * fraction:g} % of the labels random", train=train, validation=validation
    )


def blurred(data: DataSet, factor: int = 4) -> DataSet:
    """Return the set with all images averaged down to size // factor and brought back to their size, bilinearly.

    The stored pixels are blurred, so that the border which a crop adds is not.

    Raises:
        DataError: factor is below 1, or leaves no pixel.

    """
    _, height, width = data.input_shape
    small = (height // max(1, factor), width // max(1, factor))
    if factor < 1 or not min(small):
        raise DataError(
            f"factor={factor} cannot blur images of {height}x{width}; give one from 1 to their smaller side."
        )

    def blur(images: Tensor) -> Tensor:
        down = interpolate(images.float(), size=small, mode="area")
        return _pixels(interpolate(down, size=(height, width), mode="bilinear", align_corners=False))

    return with_images(data, f"{data.name} blurred {factor} times", _in_chunks(blur))


def quarter_turns(data: DataSet, *, seed: int) -> DataSet:
    """Return the task of telling by how many quarter turns, counterclockwise, an image was turned: 4 classes.

    A training image is turned at every step, by a number that is drawn for the step (the paper's images have "randomly
    been rotated"). Validation and test images are turned once, by the seed. Training examples are stored as they are,
    with the label 0; what reads them past `Batches`, such as a method that prunes at initialisation, sees them so.

    Args:
        data: left as it is; its labels play no part.
        seed: of the turns of the validation and test images.

    Raises:
        DataError: the images are not square, or the examples are drawn at each step already.

    """
    _, height, width = data.input_shape
    if height != width:
        raise DataError(f"Images of {height}x{width} change their shape by a quarter turn; give square ones.")
    refuse_drawn(data, "turned")

    def fixed(part: str, examples: Examples) -> Examples:
        turns = _uniform(4, len(examples), seed, "quarter turns", part)
        return Examples(turned(examples.images, turns.to(examples.images.device)), turns)

    return replace(
        data,
        name=f"quarter turns of {data.name}",
        classes=4,
        train=Examples(data.train.images, torch.zeros_like(data.train.labels)),
        validation=fixed("validation", data.validation),
        # read_test and not test, which would count one read twice: both sets share their counter
        read_test=lambda: fixed("test", data.read_test()),
        draw=_turn_at_random,
    )


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Return each of some square images turned counterclockwise by its number of quarter turns, exactly.

    Args:
        images: (n, C, H, H), of any dtype.
        turns: int64 (n,), from 0 to 3, on the same device.

    """
    result = images.clone()
    for quarters in (1, 2, 3):
        places = (turns == quarters).nonzero()[:, 0]
        result[places] = torch.rot90(images[places], quarters, (2, 3))
    return result


def half(data: DataSet, which: int, *, seed: int) -> DataSet:
    """Return the set with one half of its training examples, drawn by seed; the two halves share none.

    The other parts are left. Of an odd number, half 1 has one more.

    Raises:
        DataError: which is not 0 or 1, or the half is empty.

    """
    if which not in (0, 1) or len(data.train) < 2:
        raise DataError(f"There is no half {which} of the {len(data.train)} examples of {data.name}; give 0 or 1.")
    part = divide(data.train, len(data.train) // 2, seed, "half of the examples")[which]
    return replace(data, name=f"half {which} of {data.name}", train=part)


def shuffled_pixels(data: DataSet, *, seed: int) -> DataSet:
    """Return the set with the pixels of each training and validation image in an order of its own.

    The channels of a pixel stay together. Test images are left: a mask that was found on the shuffled ones is judged
    on true ones (Su et al. 2020).

    Raises:
        DataError: the examples are drawn at each step.

    """
    refuse_drawn(data, "shuffled")

    def shuffled(part: str, examples: Examples) -> Examples:
        starts = range(0, len(examples), _CHUNK)
        chunks = zip(starts, _chunks(examples.images), strict=True)
        images = [_shuffled(chunk, start, seed, part) for start, chunk in chunks]
        return Examples(torch.cat(images) if images else examples.images, examples.labels)

    train, validation = shuffled("train", data.train), shuffled("validation", data.validation)
    return replace(data, name=f"{data.name}, pixels shuffled", train=train, validation=validation)


def _turn_at_random(images: Tensor, labels: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return images turned at random, and by how many quarters."""
    turns = torch.from_numpy(generator.integers(0, 4, size=len(images), dtype=np.int64)).to(images.device)
    return turned(images, turns), turns


def _uniform(classes: int, count: int, seed: int, *purpose: str) -> Tensor:
    """Return int64 (count,), uniform over the classes."""
    # the rest of 64 bits: no class is more likely than another by more than classes / 2^64
    bits = keyed_bits(seed, *purpose).random_raw(count) % np.uint64(classes)
    return torch.from_numpy(bits.astype(np.int64))


def _shuffled(images: Tensor, start: int, seed: int, part: str) -> Tensor:
    """Return images with pixels shuffled; the first has the number `start` in its part."""
    flat = images.flatten(2)
    numbers = range(start, start + len(images))
    orders = [keyed_permutation(flat.shape[2], seed, "shuffled pixels", part, number) for number in numbers]
    order = torch.from_numpy(np.stack(orders)).to(images.device)
    return flat.gather(2, order[:, None].expand_as(flat)).reshape(images.shape)


def _pixels(values: Tensor) -> Tensor:
    """Return stored pixels: a mean of values from 0 to 255 stays among them."""
    return values.round().to(torch.uint8)


def _chunks(images: Tensor) -> Iterator[Tensor]:
    return (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))


def _in_chunks(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a change of images that is made chunk by chunk."""
    # at least one chunk, which may be empty, so that the images of an empty part have the new shape too
    return lambda images: torch.cat([*map(change, _chunks(images))] or [change(images)])
