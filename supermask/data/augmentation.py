"""Augmentation of a whole batch at once, on the device where the batch lies."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from supermask.errors import SupermaskError

Integers = NDArray[np.int64]
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
        if images.ndim != 4:
            raise SupermaskError(f"images have the shape {tuple(images.shape)}; it must be (n, C, H, W).")
        n, _, height, width = images.shape
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
