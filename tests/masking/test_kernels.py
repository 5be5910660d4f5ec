"""The inner loops: the compiled ones against plain torch, bit for bit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import EdgePopup
from supermask.masking.budget import Pool
from supermask.masking.kernels import cpu, plain, wide
from supermask.masking.kernels.cpu_plan import in_memory_order
from supermask.masking.kernels.top_k import TopK, Weights
from supermask.masking.selection import Selection, keep_largest

FLOATS = (torch.float32, torch.float64, torch.bfloat16)
LAYOUTS = {
    "contiguous": lambda tensor: tensor,
    "channels_last": lambda tensor: tensor.contiguous(memory_format=torch.channels_last),
    "transposed": lambda tensor: tensor.transpose(0, 3).contiguous().transpose(0, 3),
    "strided": lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
}


def numbers(seed, shape=(3, 4, 2, 5), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator)
    tensor[torch.rand(shape, generator=generator) < 0.2] = 0.0
    tensor[torch.rand(shape, generator=generator) < 0.2] *= -0.0
    return tensor.to(dtype)


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_order_takes_no_copy_where_tensors_lie_alike_and_dense(layout):
    one, other = (LAYOUTS[layout](numbers(seed)) for seed in (0, 1))
    flat = in_memory_order(one, other)
    if layout == "strided":
        assert flat is None
        return
    assert [part.data_ptr() for part in flat] == [one.data_ptr(), other.data_ptr()]
    assert sorted(flat[0].tolist()) == sorted(one.flatten().tolist())
    assert torch.equal(flat[0] * flat[1], in_memory_order(one * other)[0])


def test_tensors_that_lie_differently_have_no_order_in_common():
    contiguous, last = numbers(0), LAYOUTS["channels_last"](numbers(0))
    assert in_memory_order(contiguous, last) is None
    assert in_memory_order(last, contiguous) is None


@pytest.mark.parametrize("layouts", [(one, other) for one in LAYOUTS for other in LAYOUTS])
@pytest.mark.parametrize("dtype", FLOATS)
def test_weights_are_masked_as_by_torch(layouts, dtype):
    frozen, mask = LAYOUTS[layouts[0]](numbers(0, dtype=dtype)), LAYOUTS[layouts[1]](numbers(1) > 0)
    written = [torch.full_like(frozen, math.nan) for _ in range(2)]
    cpu.mask_weights(frozen, mask, written[0])
    plain.mask_weights(frozen, mask, written[1])
    assert torch.equal(bits(written[0]), bits(written[1]))
    assert not written[0][~mask].signbit().any()


@pytest.mark.parametrize("layouts", [(one, other) for one in LAYOUTS for other in LAYOUTS])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("signed", [True, False])
def test_gradients_go_straight_through_as_by_torch(layouts, dtype, signed):
    gradient, frozen = LAYOUTS[layouts[0]](numbers(0, dtype=dtype)), LAYOUTS[layouts[1]](numbers(1, dtype=dtype))
    scores = None if signed else LAYOUTS[layouts[1]](numbers(2, dtype=dtype))
    made = [backend.straight_through(gradient, frozen, scores) for backend in (cpu, plain)]
    assert torch.equal(bits(made[0]), bits(made[1]))
    assert made[0].dtype is dtype


@settings(deadline=None)
@given(st.integers(0, 70), st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))
def test_signs_are_written_as_by_torch(count, dtype, seed):
    packed = torch.randint(0, 256, (-(-count // 8),), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    magnitude = torch.tensor(0.37, dtype=dtype)
    written = [torch.full((count,), math.nan, dtype=dtype) for _ in range(2)]
    for backend, out in zip((cpu, plain), written, strict=True):
        backend.write_signs(packed, magnitude, out)
    assert torch.equal(written[0], written[1])


def test_numbers_that_only_float64_tells_apart_are_told_apart():
    scores = 1.0 + 2.0**-52 * torch.arange(8, dtype=torch.float64)
    assert keep_largest(scores, 3).tolist() == [False] * 5 + [True] * 3


def test_a_floor_goes_by_magnitude_where_the_scores_do():
    scores = {"a": torch.tensor([-9.0, 8.0, 1.0]), "b": torch.tensor([-3.0, 2.0, 0.5])}
    masks = {name: torch.zeros(3, dtype=torch.bool) for name in scores}
    Selection(signed=False).select([Pool(("a", "b"), kept=3, floor=1)], scores, masks)
    assert [mask.tolist() for mask in masks.values()] == [[True, True, False], [True, False, False]]


def test_second_derivatives_go_through_the_masked_weight():
    search = EdgePopup(nn.Linear(3, 2), density=0.5)
    inputs = torch.randn(4, 3)
    scores = search.scores()["weight"]
    (first,) = torch.autograd.grad(search.model(inputs).pow(3).sum(), scores, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), scores)
    frozen, mask = search.frozen_weights()["weight"], search.masks()["weight"]
    weight = (frozen * mask).requires_grad_()
    (plain_first,) = torch.autograd.grad((inputs @ weight.T).pow(3).sum(), weight, create_graph=True)
    expected = plain_first * frozen * scores.sign()
    torch.testing.assert_close(first, expected)
    (through,) = torch.autograd.grad(expected.square().sum(), weight)
    torch.testing.assert_close(second, through * frozen * scores.sign())


def by_stable_sort(scores, kept, signed):
    flat = torch.cat([score.reshape(-1) for score in scores])
    order = torch.sort(flat + 0.0 if signed else flat.abs(), descending=True, stable=True).indices
    mask = torch.zeros(len(flat), dtype=torch.bool)
    mask[order[:kept]] = True
    return [part.view(score.shape) for part, score in zip(mask.split([s.numel() for s in scores]), scores, strict=True)]


def wide_scores(kind):
    drawn = torch.Generator().manual_seed(3)
    scores = torch.randn(70_000, generator=drawn, dtype=torch.float64), torch.randn(300, 7, generator=drawn).double()
    if kind == "tied":
        return [(score * 3).round() for score in scores]
    if kind == "equal":
        return [torch.full_like(score, -0.0 if score.ndim > 1 else 0.0) for score in scores]
    if kind == "pruned":
        return [torch.where(score > 1, score.abs(), -torch.inf) for score in scores]
    if kind == "infinite":
        return [torch.where(score > 2, torch.inf, score) for score in scores]
    if kind == "turned":
        return [scores[0].view(700, 100).T, scores[1].T]
    if kind == "sorted":  # a sample at equal distances sees one side of each stride
        return [scores[0].sort().values, scores[1]]
    return [*scores]


@pytest.mark.parametrize("kind", ["random", "tied", "equal", "pruned", "infinite", "turned", "sorted"])
@pytest.mark.parametrize("kept", [0, 1, 2, 100, 9_000, 36_000, 72_099, 72_100])
@pytest.mark.parametrize("signed", [True, False])
def test_wide_scores_are_selected_as_by_a_stable_sort(kind, kept, signed):
    scores = wide_scores(kind)
    masks = [torch.rand(score.shape) < 0.5 for score in scores]
    frozen = [torch.randn(score.shape, dtype=torch.float64) for score in scores]
    values = [torch.where(mask, weight, 0.0) for mask, weight in zip(masks, frozen, strict=True)]
    selector = wide.WideSelector(signed)
    weights = tuple(Weights(*pair) for pair in zip(frozen, values, strict=True))
    selector.select([TopK(tuple(scores), kept, tuple(masks), weights)])
    expected = by_stable_sort(scores, kept, signed)
    assert selector.kept == [int(mask.sum()) for mask in expected]
    for mask, wanted, weight, value in zip(masks, expected, frozen, values, strict=True):
        assert torch.equal(mask, wanted)
        assert torch.equal(value, torch.where(wanted, weight, 0.0))


@pytest.mark.parametrize("kept", [0, 5, 70_000])
def test_wide_nans_are_counted(kept):
    scores = wide_scores("random")
    scores[0][[3, 69_999]] = torch.nan
    selector = wide.WideSelector(True)
    selector.select([TopK(tuple(scores), kept, tuple(torch.zeros_like(s, dtype=torch.bool) for s in scores))])
    assert int(selector.nans.sum()) == 2


@pytest.mark.parametrize("layout", ["row-major", "turned"])
@pytest.mark.parametrize("case", ["positive", "negative", "infinite"])
def test_products_and_places_are_those_of_plain_torch(layout, case):
    drawn = torch.Generator().manual_seed(0)
    weight, slope = (torch.rand(70, 33, generator=drawn, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(70, 33, generator=drawn) < (1.0 if case == "negative" else 0.6)
    weight *= mask
    slope = -slope if case == "negative" else slope
    if case == "infinite":
        slope[5, 5] = torch.inf
    if layout == "turned":
        weight, slope, mask = weight.T, slope.T, mask.T
    found, wanted = torch.empty_like(slope), torch.empty_like(slope)
    largest = wide.write_products(weight, slope, mask, found)
    expected = plain.write_products(weight, slope, mask, wanted)
    assert torch.equal(found, wanted)
    assert largest == expected or (largest != largest and expected != expected)
    after = mask & (slope > 0.5)
    if case != "infinite":
        places, others, left = torch.zeros_like(slope), torch.zeros_like(slope), weight.clone()
        plain.let_fall(wanted, mask, after, 7, 2 * largest, others, left)
        wide.let_fall(found, mask, after, 7, 2 * largest, places, weight)
        assert torch.equal(places, others)
        assert torch.equal(weight, left)
        assert torch.equal(places != 0, mask & ~after)
