import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supermask.data import CropAndFlip, Warp
from supermask.errors import SupermaskError


def random_images(n, channels, height, width, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(n)
    return torch.randint(1, 256, (n, channels, height, width), generator=generator).to(dtype)


def slow(images, padding, flip, generator):
    """One image and one pixel at a time, with the draws in the order that the fast one makes them."""
    n, _, height, width = images.shape
    top, left = generator.integers(0, 2 * padding + 1, size=(2, n, 1))
    mirrored = generator.integers(0, 2, size=(n, 1), dtype=np.uint8) if flip else np.zeros((n, 1))
    result = torch.zeros_like(images)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                from_y = y + int(top[i, 0]) - padding
                from_x = (width - 1 - x if mirrored[i, 0] else x) + int(left[i, 0]) - padding
                if 0 <= from_y < height and 0 <= from_x < width:
                    result[i, :, y, x] = images[i, :, from_y, from_x]
    return result


@given(
    n=st.integers(0, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    padding=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_the_slow_oracle(n, channels, height, width, padding, flip, seed):
    images = random_images(n, channels, height, width)
    fast = CropAndFlip(padding, flip)(images, generator=np.random.default_rng(seed))
    assert torch.equal(fast, slow(images, padding, flip, np.random.default_rng(seed)))
    assert fast.shape == images.shape
    assert fast.dtype == torch.uint8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_and_layout_is_cut_alike(dtype):
    images = random_images(6, 3, 5, 7, dtype).contiguous(memory_format=torch.channels_last)
    cut = CropAndFlip(2)(images, generator=np.random.default_rng(0))
    assert torch.equal(cut, slow(images, 2, True, np.random.default_rng(0)))
    assert cut.is_contiguous()


def test_without_padding_and_flip_nothing_changes():
    images = random_images(4, 3, 5, 5)
    assert torch.equal(CropAndFlip(0, flip=False)(images, generator=np.random.default_rng(0)), images)


def test_with_flip_alone_about_half_are_mirrored_and_none_is_anything_else():
    images = random_images(1000, 1, 3, 4)
    result = CropAndFlip(padding=0)(images, generator=np.random.default_rng(0))
    kept = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(3)).flatten(1).all(1)
    assert bool((kept | mirrored).all())
    assert 430 < int(mirrored.sum()) < 570  # 4.4 standard deviations of a fair coin


def test_every_crop_occurs_about_equally_often():
    dot = torch.zeros(9000, 1, 3, 3, dtype=torch.uint8)
    dot[:, :, 1, 1] = 255
    where = CropAndFlip(padding=1, flip=False)(dot, generator=np.random.default_rng(0)).flatten(1).argmax(1)
    counts = torch.bincount(where, minlength=9)
    assert counts.min() > 860
    assert counts.max() < 1140


def test_images_of_a_batch_are_augmented_differently():
    same = random_images(1, 3, 8, 8).expand(64, -1, -1, -1)
    result = CropAndFlip()(same, generator=np.random.default_rng(0))
    assert len(result.flatten(1).unique(dim=0)) > 30


def test_the_input_and_the_global_generators_are_left_alone():
    images = random_images(4, 3, 8, 8)
    before, state = images.clone(), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    CropAndFlip()(images, generator=np.random.default_rng(0))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_bad_arguments_are_refused():
    with pytest.raises(SupermaskError, match="padding is -1"):
        CropAndFlip(padding=-1)
    with pytest.raises(SupermaskError, match=r"\(n, C, H, W\)"):
        CropAndFlip()(torch.zeros(3, 8, 8), generator=np.random.default_rng(0))


def ramps(n, height, width):
    """Images of two channels, whose pixels are their own column and row: interpolation between pixels is exact."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in (height, width))
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy")).expand(n, -1, -1, -1)


def test_knots_of_a_warp_are_moved_by_what_was_drawn():
    height, width = 22, 29  # knots in every seventh row and column
    warped = Warp(0.5)(ramps(40, height, width), generator=np.random.default_rng(5))
    drawn = torch.from_numpy(np.random.default_rng(5).normal(0.0, 0.5, (40, 2, 4, 5)))
    inner = (warped - ramps(40, height, width))[:, :, 7:-7:7, 7:-7:7]  # at the border black comes in
    assert torch.allclose(inner, drawn[:, :, 1:-1, 1:-1], atol=1e-9)


def test_displacements_have_the_deviation_that_was_asked_and_change_little_from_pixel_to_pixel():
    moved = (Warp(1.5)(ramps(400, 36, 36), generator=np.random.default_rng(0)) - ramps(400, 36, 36))[..., 7:-7, 7:-7]
    # bicubic interpolation has about 0.7 of the variance between knots; 400 images make the deviation known to 1 %
    assert 0.75 * 1.5 < float(moved.std()) < 1.0 * 1.5
    assert float(moved.diff(dim=-1).std()) < 0.25 * 1.5


@given(
    n=st.integers(0, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    pixels=st.floats(0.1, 3.0),
    seed=st.integers(0, 99),
)
def test_a_warp_reads_between_four_pixels_and_black_outside(n, height, width, pixels, seed):
    images = random_images(n, 1, height, width).double()
    far = 20  # a ramp in a black frame says where each pixel comes from
    many = [max(2, round(side / 7) + 1) for side in (height, width)]
    knots = np.random.default_rng(seed).normal(0.0, pixels, (n, 2, *many))
    warped = Warp(pixels)(images, generator=np.random.default_rng(seed))
    moved = torch.nn.functional.interpolate(
        torch.from_numpy(knots), (height, width), mode="bicubic", align_corners=True
    )
    framed = torch.nn.functional.pad(images, (far,) * 4)
    for i in range(n):
        for row in range(height):
            for column in range(width):
                x, y = column + float(moved[i, 0, row, column]) + far, row + float(moved[i, 1, row, column]) + far
                left, top = int(x), int(y)
                if not (0 < left < width + 2 * far - 1 and 0 < top < height + 2 * far - 1):
                    assert float(warped[i, 0, row, column]) == 0.0
                    continue
                corners = framed[i, 0, top : top + 2, left : left + 2]
                right, low = x - left, y - top
                across = corners[:, 0] * (1 - right) + corners[:, 1] * right
                expected = float(across[0] * (1 - low) + across[1] * low)
                assert float(warped[i, 0, row, column]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64])
def test_a_warp_keeps_dtype_input_and_global_generators_and_rounds_whole_numbers(dtype):
    images = random_images(6, 3, 9, 8, dtype)
    before, state = images.clone(), torch.get_rng_state()
    warped = Warp(1.0)(images, generator=np.random.default_rng(0))
    assert (warped.dtype, warped.shape) == (dtype, images.shape)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    exact = Warp(1.0)(images.double(), generator=np.random.default_rng(0))
    off = {torch.uint8: 0.5, torch.bfloat16: 1.0}.get(dtype, 1e-3)  # bfloat16 has eight bits below 256
    assert float((warped.double() - exact).abs().max()) <= off + 1e-3
    assert len(warped.flatten(1).unique(dim=0)) == 6


def test_a_warp_of_no_pixels_changes_nothing_and_bad_ones_are_refused():
    images = random_images(4, 3, 5, 5)
    assert torch.equal(Warp(0.0)(images, generator=np.random.default_rng(0)), images)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SupermaskError, match=f"pixels is {bad}"):
            Warp(bad)
    with pytest.raises(SupermaskError, match=r"\(n, C, H, W\)"):
        Warp(1.0)(torch.zeros(3, 8, 8), generator=np.random.default_rng(0))


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives():
    images = random_images(64, 3, 32, 32)
    there = CropAndFlip()(images.cuda(), generator=np.random.default_rng(0))
    assert there.is_cuda
    assert torch.equal(there.cpu(), CropAndFlip()(images, generator=np.random.default_rng(0)))
    warped = Warp(1.0)(images.cuda(), generator=np.random.default_rng(0)).cpu()
    off = (warped.int() - Warp(1.0)(images, generator=np.random.default_rng(0)).int()).abs()
    assert float((off > 0).float().mean()) < 1e-3, "a pixel half way between two values is rounded either way"
    assert int(off.max()) <= 1
