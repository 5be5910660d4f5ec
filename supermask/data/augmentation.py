"""Augmentation of a whole batch at once, on the device where the batch lies."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from supermask.errors import SupermaskError

Integers = NDArray[np.int64]
_APART = 7.0  # pixels between knots; displacements that Simard et al. blur by 4 pixels are alike about as far
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class CropAndFlip:
    """Cut each image at random out of its zero-padded self, and mirror it left to right or not at random.

    The standard augmentation of CIFAR (He et al., 2016, section 4.2: 4 pixels). Applied to stored pixels,
    before they are normalized, so the border is black.

    Args:
        padding: black pixels added on each side before the crop; at least 0.
        flip: whether an image is mirrored with probability one half.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise SupermaskError(f"padding is {self.padding} pixels; it must be at least 0.")

    def __call__(self, images: Tensor, *, generator: np.random.Generator) -> Tensor:
        """Return the augmented images: same shape (n, C, H, W), dtype and device; the input is not changed.

        All draws are made on the CPU, so every device sees the same augmentation.
        """
        n, _, height, width = check_images(images)
        top, left = generator.integers(0, 2 * self.padding + 1, size=(2, n))
        mirrored = generator.integers(0, 2, size=n, dtype=np.uint8) == 1 if self.flip else np.zeros(n, bool)
        padded = pad(images, (self.padding,) * 4)
        if images.is_cpu:
            return _sliced(padded, images.shape, top, left, mirrored)
        rows = top[:, None] + np.arange(height)
        columns = left[:, None] + np.arange(width)
        # in the index, so that the pixels are moved only once for both changes
        columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
        row, column = (_sent(torch.from_numpy(index), images.device) for index in (rows, columns))
        image = torch.arange(n, device=images.device)[:, None, None]
        # channels last, so that one index takes a whole pixel
        cropped = padded.permute(0, 2, 3, 1)[image, row[:, :, None], column[:, None, :]]  # (n, H, W, C)
        return cropped.permute(0, 3, 1, 2).contiguous()


def _sliced(padded: Tensor, shape: torch.Size, top: Integers, left: Integers, mirrored: NDArray[np.bool_]) -> Tensor:
    """Cut images out one by one, which a CPU does faster than it gathers pixels."""
    cropped = torch.empty(shape, dtype=padded.dtype)
    # as integers, because numpy does not know every dtype of torch
    source, out = (each.view(_INTEGERS[padded.element_size()]).numpy() for each in (padded, cropped))
    height, width = shape[2:]
    for i, (y, x, mirror) in enumerate(zip(top.tolist(), left.tolist(), mirrored.tolist(), strict=True)):
        cut = source[i, :, y : y + height, x : x + width]
        out[i] = cut[:, :, ::-1] if mirror else cut
    return cropped


def _sent(index: Tensor, device: torch.device) -> Tensor:
    """Return the index on the device; the host does not wait for a copy from pinned memory."""
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)


@dataclass(frozen=True)
class Warp:
    """Move the parts of each image by smooth random displacements, so that strokes bend, turn, grow and shrink.

    Displacements are drawn at knots seven pixels apart and interpolated bicubically between them; pixels are
    interpolated bilinearly, and what comes from outside is black. Applied to stored pixels, before they are normalized.

    Source: Simard, Steinkraus & Platt 2003, section 2 (elastic distortions), which draw displacements at each pixel and
    blur them.

    Args:
        pixels: standard deviation of the displacement of a knot in each direction; at least 0.
    """

    pixels: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.pixels < np.inf:
            raise SupermaskError(f"pixels is {self.pixels}; the displacement must be a finite number, at least 0.")

    def __call__(self, images: Tensor, *, generator: np.random.Generator) -> Tensor:
        """Return the warped images: same shape (n, C, H, W), dtype and device; the input is not changed.

        Whole numbers are rounded to the nearest. All draws are made on the CPU, so every device sees nearly the same
        images.

        Raises:
            SupermaskError: images are not of this shape.

        """
        n, _, *sides = check_images(images)
        if not (n and self.pixels):
            return images.clone()
        exact = images if images.dtype == torch.float64 else images.float()
        knots = generator.normal(0.0, self.pixels, (n, 2, *(max(2, round(side / _APART) + 1) for side in sides)))
        moved = interpolate(torch.from_numpy(knots).to(exact), sides, mode="bicubic", align_corners=True)
        rows, columns = (torch.arange(side, dtype=exact.dtype, device=exact.device) for side in sides)
        # places as grid_sample has them: x before y, and -1 and 1 the borders of an image
        x, y = columns + moved[:, 0], rows[:, None] + moved[:, 1]
        places = torch.stack([(2 * x + 1) / sides[1] - 1, (2 * y + 1) / sides[0] - 1], dim=-1)
        warped = grid_sample(exact, places, align_corners=False)
        return (warped if images.is_floating_point() else warped.round()).to(images.dtype)


def check_images(images: Tensor) -> torch.Size:
    """Return the shape of images (n, C, H, W); raise `SupermaskError` for inputs of another number of dimensions."""
    if images.ndim != 4:
        raise SupermaskError(
            f"The inputs have the shape {tuple(images.shape)}; crops, flips and warps take images (n, C, H, W) alone."
        )
    return images.shape
