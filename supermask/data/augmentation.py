"""Augmentation of a whole batch at once, on the device where the batch lies."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from supermask.errors import SupermaskError


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
        rows, columns = (_sent(index, images.device) for index in self._pixels(images.shape, generator))
        image = torch.arange(len(images), device=images.device)[:, None, None]
        # channels last, so that one index takes a whole pixel
        padded = pad(images, (self.padding,) * 4).permute(0, 2, 3, 1)
        cropped = padded[image, rows[:, :, None], columns[:, None, :]]  # (n, H, W, C)
        return cropped.permute(0, 3, 1, 2).contiguous()

    def _pixels(self, shape: torch.Size, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return which row (n, H) and column (n, W) of its padded image each output pixel is read from."""
        n, _, height, width = shape
        top, left = generator.integers(0, 2 * self.padding + 1, size=(2, n, 1))
        rows, columns = top + np.arange(height), left + np.arange(width)
        if self.flip:
            mirrored = generator.integers(0, 2, size=(n, 1), dtype=np.uint8) == 1
            # in the index, so that the pixels are moved only once for both changes
            columns = np.where(mirrored, columns[:, ::-1], columns)
        return torch.from_numpy(rows), torch.from_numpy(columns)


def _sent(index: Tensor, device: torch.device) -> Tensor:
    """Return the index on the device; the host does not wait for a copy from pinned memory."""
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)
