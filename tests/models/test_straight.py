"""Straightened images against moments and sampling written out pixel by pixel."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import SupermaskError, Ticket, models
from supermask.models.straight import Straighten
from supermask.search.coded import Coded


def straightened_slowly(image):
    """Return one image (channels, height, width), float64, straightened by loops over its pixels."""
    _, height, width = image.shape
    lowest = image.min()
    mass = image - lowest
    weights = mass.sum(0)
    total = float(weights.sum())
    if total == 0.0:
        return image.clone()
    pixels = [(y, x, float(weights[y, x]) / total) for y in range(height) for x in range(width)]
    y_mean, x_mean = sum(y * w for y, _, w in pixels), sum(x * w for _, x, w in pixels)
    variance = sum((y - y_mean) ** 2 * w for y, _, w in pixels)
    covariance = sum((y - y_mean) * (x - x_mean) * w for y, x, w in pixels)
    slope = max(-1.5, min(1.5, covariance / variance)) if variance > 0.0 else 0.0
    found = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            up, right = y - (height - 1) / 2, x - (width - 1) / 2
            found[:, y, x] = lowest + interpolated(mass, y_mean + up, x_mean + right + slope * up)
    return found


def interpolated(mass, y, x):
    top, left, value = math.floor(y), math.floor(x), torch.zeros(mass.shape[0], dtype=mass.dtype)
    for row, part in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, share in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= row < mass.shape[1] and 0 <= column < mass.shape[2]:
                value += part * share * mass[:, row, column]
    return value


@settings(max_examples=30, deadline=None)
@given(
    channels=st.integers(1, 3), height=st.integers(2, 9), width=st.integers(2, 9), seed=st.integers(0, 2**31),
    low=st.floats(-2.0, 2.0),
)  # fmt: skip
@example(channels=1, height=2, width=2, seed=7, low=0.0)  # nearly all mass in one row
def test_it_is_what_the_loops_say(channels, height, width, seed, low):
    generator = torch.Generator().manual_seed(seed)
    images = low + torch.rand(3, channels, height, width, generator=generator, dtype=torch.float64) ** 8
    found = Straighten()(images)
    for image, got in zip(images, found, strict=True):
        torch.testing.assert_close(got, straightened_slowly(image), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_blank_image_stays_as_it_is(dtype):
    images = torch.full((2, 1, 6, 5), -0.5, dtype=dtype)
    found = Straighten()(images)
    assert found.dtype == dtype
    assert torch.equal(found, images)


def bar(slope, column):
    """Return a bar (1, 1, 28, 28) that leans by so many columns a row, through a column in its middle."""
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    distance = x - column - slope * (y - 12.0)
    return (torch.exp(-0.25 * distance.square()) * ((y > 4) & (y < 20)))[None, None]


@pytest.mark.parametrize("slope", [-0.8, -0.3, 0.5])
@pytest.mark.parametrize("column", [11.0, 15.0])
def test_bars_that_lean_become_one_upright_bar_in_the_middle(slope, column):
    upright = Straighten()(bar(0.0, 13.5))
    found, before = ((image - upright).abs().mean() for image in (Straighten()(bar(slope, column)), bar(slope, column)))
    assert found < 0.2 * before  # bilinear sampling blurs a little


def test_the_places_are_exact_under_autocast():
    images = torch.rand(4, 1, 28, 28)
    plain = Straighten()(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(Straighten()(images), plain)


def test_gradients_reach_the_images():
    images = torch.rand(2, 1, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Straighten(), (images,), atol=1e-5)


def test_a_network_behind_it_is_searched_and_kept(tmp_path):
    model = models.build("straight:tiny_conv", width=0.25)
    search = Coded(model, bytes=600, steps=1)
    ticket = search.ticket(model="straight:tiny_conv")
    ticket.save(tmp_path / "straight.ticket")
    fresh = models.build("straight:tiny_conv", width=0.25)
    Ticket.load(tmp_path / "straight.ticket").apply(fresh)
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(fresh.eval()(images), model.eval()(images))
    plain = nn.Sequential(*fresh[1:])
    assert torch.equal(fresh(images), plain(Straighten()(images)))


def test_it_stands_before_a_network_once():
    with pytest.raises(SupermaskError, match="straight: twice"):
        models.build("straight:straight:tiny_conv")
