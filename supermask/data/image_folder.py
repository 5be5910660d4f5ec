"""Images in folders, one folder for each class, as torchvision's ImageFolder has them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from supermask.data.data_set import DataSet, Examples
from supermask.data.split import divide, nothing_of, pixel_statistics
from supermask.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEST_SHARE = 5
"""One of so many images is for testing where no folder is."""

T = TypeVar("T")
Listed = list[tuple[Path, int]]
"""Files and their labels."""


def read_image_folder(path: Path, *, name: str, size: int | None = None) -> DataSet:
    """Return the images below a folder as uint8, grey where all training images are, else of three colours.

    The folder has a folder for each class; or train/ and test/ with these inside, and val/ if there is one. Without
    test/, val/ is the test part; without train/, a fifth of the images is, the same at every call.

    Args:
        path: of the folder.
        name: of the data set.
        size: height and width that images are brought to; None leaves them as they are, all of one size.

    Raises:
        DataError: there are no classes or no images, an image cannot be read, or they differ in size.

    """
    if not path.is_dir():
        raise DataError(f"There is no folder {path}; give folder:PATH, with a folder of images for each class.")
    train = path / "train"
    parts = {part: path / part for part in ("val", "test") if train.is_dir() and (path / part).is_dir()}
    classes = _classes(train if train.is_dir() else path)
    if not train.is_dir():
        listed = _listed(path, classes)
        chosen, left = divide(_places(listed), len(listed) // TEST_SHARE, 0, "image folder test split")
        test, known = _of(listed, chosen), _of(listed, left)
    else:
        known = _listed(train, classes)
        test = _listed(parts["test" if "test" in parts else "val"], classes) if parts else []
    grey = _are_grey(known)
    examples = _read(known, size, grey)
    mean, std = pixel_statistics(examples.images, 255.0)
    if min(std) <= 0:
        raise DataError(f"A channel of the training images of {path} is constant, so that it cannot be normalised.")
    # a test image of another size than the training images is refused when it is read
    shape = tuple(examples.images.shape[1:])
    held = _read(_listed(parts["val"], classes), size, grey) if {"val", "test"} <= parts.keys() else None
    return DataSet(
        name=name,
        classes=len(classes),
        input_shape=shape,
        scale=255.0,
        mean=mean,
        std=std,
        train=examples,
        validation=held or nothing_of(examples),
        read_test=partial(_read, test, size, grey) if test else partial(nothing_of, examples),
    )


def _classes(path: Path) -> list[str]:
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise DataError(f"{path} holds {len(names)} folders; give one with a folder of images for each class.")
    return names


def _listed(path: Path, classes: Sequence[str]) -> Listed:
    others = {*_classes(path)} - {*classes}
    if others:
        raise DataError(f"{path} has a folder {min(others)}, which is not a class of the training images.")
    found = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]
    if not found:
        raise DataError(f"{path} holds no images; they are files that end with {', '.join(SUFFIXES)}.")
    return found


def _places(listed: Listed) -> Examples:
    """Return the places of files in their list as examples, to be divided as such."""
    places = torch.arange(len(listed))
    return Examples(places[:, None], places)


def _of(listed: Listed, chosen: Examples) -> Listed:
    return [listed[place] for place in chosen.labels.tolist()]


def _are_grey(listed: Listed) -> bool:
    return all(_opened(file, lambda image: image.mode in ("1", "L", "LA", "I;16")) for file, _ in listed)


def _read(listed: Listed, size: int | None, grey: bool) -> Examples:
    images: list[Tensor] = []
    for file, _ in listed:
        images.append(_opened(file, partial(_pixels, size=size, grey=grey)))
        if images[-1].shape[-2:] != images[0].shape[-2:]:
            first, this = ("x".join(map(str, image.shape[-2:])) for image in (images[0], images[-1]))
            raise DataError(
                f"Images differ in size: {listed[0][0]} is {first} pixels and {file} is {this}; add ?size=NUMBER to the"
                " folder's path, to which all are then brought."
            )
    stacked = torch.stack(images)
    return Examples(stacked, torch.tensor([label for _, label in listed]))


def _pixels(image: Any, size: int | None, grey: bool) -> Tensor:
    """Return an image of PIL as uint8 (C, H, W)."""
    image = image.convert("L" if grey else "RGB")
    pixels = np.array(image if size is None else image.resize((size, size)))
    return torch.from_numpy(pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _opened(file: Path, use: Callable[[Any], T]) -> T:
    """Return what is made of an image of PIL."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return use(image)
    # what PIL raises of files that are damaged, or are none of images
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"Cannot read the image {file}: {type(error).__name__}.") from None
