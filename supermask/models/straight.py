"""Straightened images: each is sheared until it stands upright, and moved to the middle, before a network sees it."""

import torch
from torch import Tensor, nn

_STEEPEST = 1.5  # columns for each row of distance; one digit of MNIST in 1,000 leans by more than 1.05


class Straighten(nn.Module):
    """Images with their centre of mass in the middle and their rows moved so that the mass leans to no side.

    The mass of a pixel is what it has above the lowest value of its image, summed over channels. Rows are moved by
    `slope = E[(x - mean x)(y - mean y)] / E[(y - mean y)^2]` for each row of distance, so that x and y are uncorrelated
    afterwards; values between pixels are interpolated bilinearly, and what comes from outside has the lowest value. A
    blank image stays as it is. Nothing is learned and nothing is stored.

    Maps floating images (batch, channels, height, width) to images of the same shape and dtype; the moments are
    computed in float32 at least. Meant for shapes on a plain dark background, such as digits.

    Source: LeCun, Bottou, Bengio & Haffner 1998, section III.A, which deslants digits by their second moments, with
    every pixel of the foreground counted as one.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return straightened images."""
        with torch.autocast(images.device.type, enabled=False):  # a sampling place needs more than eight bits
            exact = images if images.dtype == torch.float64 else images.float()
            lowest = exact.amin((1, 2, 3), keepdim=True)
            mass = exact - lowest
            grid = nn.functional.affine_grid(_places(mass), list(mass.shape), align_corners=False)
            moved = nn.functional.grid_sample(mass, grid, align_corners=False)
            return (moved + lowest).to(images.dtype)


def _places(mass: Tensor) -> Tensor:
    """Return the affine maps, (batch, 2, 3), from places of the new images to places of the old ones.

    Places are as `affine_grid` has them: -1 and 1 are the borders of an image, in both directions.
    """
    height, width = mass.shape[-2:]
    y, x = (_centres(side, mass) for side in (height, width))
    mass = mass.sum(1)
    total = mass.sum((1, 2))
    mass = mass / _divisor(total)[:, None, None]
    rows, columns = mass.sum(2), mass.sum(1)
    y_mean, x_mean = rows @ y, columns @ x
    dy, dx = y - y_mean[:, None], x - x_mean[:, None]
    variance = (rows * dy.square()).sum(1)
    covariance = torch.einsum("bhw,bh,bw->b", mass, dy, dx)
    steepest = _STEEPEST * height / width
    slope = (covariance / _divisor(variance)).clamp(-steepest, steepest)
    zero, one = torch.zeros_like(slope), torch.ones_like(slope)
    return torch.stack([one, slope, x_mean, zero, one, y_mean], 1).view(-1, 2, 3)


def _divisor(values: Tensor) -> Tensor:
    """Return the values, and 1 for 0: a blank image has no mass, and one of a single row no spread over rows."""
    return torch.where(values > 0.0, values, 1.0)


def _centres(side: int, like: Tensor) -> Tensor:
    return (torch.arange(side, dtype=like.dtype, device=like.device) * 2 + 1) / side - 1


def straightened(model: nn.Module) -> nn.Module:
    """Return the model behind a `Straighten`."""
    return nn.Sequential(Straighten(), model)
