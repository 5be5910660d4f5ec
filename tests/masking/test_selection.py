import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.errors import SupermaskError
from supermask.masking.selection import keep_largest, keep_largest_by_sort

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# the least subnormal of each dtype is among them, and every value may come often
AWKWARD = (0.0, -0.0, 1.0, -1.0, 2.0**-24, 2.0**-133, 2.0**-149, -(2.0**-149), 2.0**-1074, math.inf, -math.inf)
LAYOUTS = ("contiguous", "transposed", "strided", "channels_last")


def oracle(scores, k):
    """The definition: the first k indices by descending score, then by row-major index."""
    flat = scores.double().flatten().tolist()
    kept = set(sorted(range(len(flat)), key=lambda index: (-flat[index], index))[:k])
    return torch.tensor([index in kept for index in range(len(flat))], dtype=torch.bool).reshape(scores.shape)


def laid_out(scores, layout):
    """Equal numbers at other places of the memory."""
    if layout == "transposed":
        return scores.mT.contiguous().mT if scores.ndim >= 2 else scores
    if layout == "strided":
        wide = torch.full((*scores.shape, 2), math.nan, dtype=scores.dtype)
        wide[..., 0] = scores
        return wide[..., 0]
    return scores.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else scores


@st.composite
def cases(draw):
    layout = draw(st.sampled_from(LAYOUTS))
    dims = 4 if layout == "channels_last" else draw(st.integers(0, 3))
    shape = draw(st.tuples(*[st.integers(0, 4)] * dims))
    count = math.prod(shape)
    number = st.sampled_from(AWKWARD) | st.floats(allow_nan=False) | st.integers(-3, 3).map(float)
    numbers = draw(st.lists(number, min_size=count, max_size=count))
    scores = torch.tensor(numbers, dtype=torch.float64).to(draw(st.sampled_from(DTYPES))).reshape(shape)
    k = draw(st.sampled_from([0, min(1, count), max(0, count - 1), count]) | st.integers(0, count))
    return laid_out(scores, layout), k


@settings(deadline=None, max_examples=400)
@given(cases())
def test_the_mask_is_that_of_the_definition_and_the_scores_stay_as_they_were(case):
    scores, k = case
    before = scores.clone()
    mask = keep_largest(scores, k)
    assert mask.dtype is torch.bool
    assert mask.shape == scores.shape
    assert torch.equal(mask, oracle(scores, k))
    assert torch.equal(scores, before)
    assert torch.equal(scores.signbit(), before.signbit())


@settings(deadline=None, max_examples=100)
@given(cases())
def test_the_sort_and_the_counting_agree(case):
    scores, k = case
    assert torch.equal(keep_largest_by_sort(scores.reshape(-1), k), keep_largest(scores, k).reshape(-1))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5000), st.integers(1, 32))
def test_they_agree_on_any_bit_patterns(seed, k, varying):
    """Few varying bits make many ties, wherever in the pattern the two halves of the radix meet."""
    generator = np.random.default_rng(seed)
    shift = int(generator.integers(0, 33 - varying))
    pattern = generator.integers(0, 2**32, dtype=np.uint32)
    noise = generator.integers(0, 2**varying, size=5000, dtype=np.uint64) << np.uint64(shift)
    scores = torch.from_numpy((pattern ^ noise.astype(np.uint32)).view(np.float32).copy()).nan_to_num(math.inf)
    assert torch.equal(keep_largest_by_sort(scores, k), keep_largest(scores, k))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [0, 1, 7, 11, 12])
def test_equal_scores_keep_the_lowest_indices(dtype, k):
    mask = keep_largest(torch.full((3, 4), -0.5, dtype=dtype), k)
    assert mask.flatten().tolist() == [True] * k + [False] * (12 - k)


@pytest.mark.parametrize("dtype", DTYPES)
def test_minus_zero_ties_with_zero(dtype):
    assert keep_largest(torch.tensor([-0.0, 0.0, -0.0], dtype=dtype), 1).tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [0, 1, 5, 6])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_nan_anywhere_is_refused_and_counted(dtype, k, sign):
    scores = torch.zeros(2, 3, dtype=dtype)
    scores[0, 2] = scores[1, 1] = math.copysign(math.nan, sign)
    with pytest.raises(SupermaskError, match="2 of 6 scores are NaN"):
        keep_largest(scores, k)


@pytest.mark.parametrize("k", [-1, 7])
def test_a_count_out_of_range_is_refused(k):
    with pytest.raises(SupermaskError, match=f"Cannot keep {k} of 6 scores"):
        keep_largest(torch.zeros(2, 3), k)


def test_scores_that_require_a_gradient_are_ranked_without_one():
    assert not keep_largest(torch.ones(3, requires_grad=True), 2).requires_grad


@pytest.mark.gpu
@settings(deadline=None, max_examples=50)
@given(cases())
def test_the_mask_is_the_same_on_a_gpu(case):
    scores, k = case
    assert torch.equal(keep_largest(scores.cuda(), k).cpu(), keep_largest(scores, k))
