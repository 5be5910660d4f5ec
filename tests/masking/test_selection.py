import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool
from supermask.masking.kernels import counting, cpu
from supermask.masking.kernels.plain import PlainSelector
from supermask.masking.kernels.top_k import TopK
from supermask.masking.selection import Selection, keep_largest

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


def by_sort(scores, k, *, signed=True):
    mask = torch.zeros(scores.shape, dtype=torch.bool)
    PlainSelector(signed=signed).select([TopK((scores,), k, (mask,))])
    return mask


def select(selection, problems):
    """Give a selection its problems as pools of layers, named by their places."""
    names = [[f"{number}.{place}" for place in range(len(each.scores))] for number, each in enumerate(problems)]
    pools = [Pool(tuple(own), each.kept) for own, each in zip(names, problems, strict=True)]
    scores, masks = (
        {
            name: tensor
            for own, each in zip(names, problems, strict=True)
            for name, tensor in zip(own, getattr(each, part), strict=True)
        }
        for part in ("scores", "masks")
    )
    selection.select(pools, scores, masks)


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


@settings(deadline=None, max_examples=150)
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
    assert torch.equal(by_sort(scores, k), keep_largest(scores, k))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5000), st.integers(1, 32))
def test_they_agree_on_any_bit_patterns(seed, k, varying):
    """Few varying bits make many ties, wherever in the pattern the two halves of the radix meet."""
    generator = np.random.default_rng(seed)
    shift = int(generator.integers(0, 33 - varying))
    pattern = generator.integers(0, 2**32, dtype=np.uint32)
    noise = generator.integers(0, 2**varying, size=5000, dtype=np.uint64) << np.uint64(shift)
    scores = torch.from_numpy((pattern ^ noise.astype(np.uint32)).view(np.float32).copy()).nan_to_num(math.inf)
    assert torch.equal(by_sort(scores, k), keep_largest(scores, k))


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


@st.composite
def problems(draw):
    """A few problems of a few tensors each, by magnitude or signed."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        parts = [draw(cases())[0].float() for _ in range(draw(st.integers(1, 3)))]
        made.append((parts, draw(st.integers(0, sum(part.numel() for part in parts)))))
    return made, draw(st.booleans())


@settings(deadline=None, max_examples=100)
@given(problems())
def test_the_tensors_of_a_problem_compete_in_their_order(drawn):
    made, signed = drawn
    masks = [[torch.ones_like(part, dtype=torch.bool) for part in parts] for parts, _ in made]
    asked = [TopK(tuple(parts), kept, tuple(own)) for (parts, kept), own in zip(made, masks, strict=True)]
    select(Selection(signed=signed), asked)
    for (parts, kept), own in zip(made, masks, strict=True):
        together = torch.cat([part.reshape(-1) for part in parts])
        expected = oracle(together if signed else together.abs(), kept)
        assert torch.equal(torch.cat([mask.reshape(-1) for mask in own]), expected)


def found_in_window(selector):
    """Whether the last selection of a `CpuSelector` took one pass."""
    return bool(selector._memories[0, 2])


class Walk:
    """Scores as a training leaves them: small moves, jumps, ties and a stretch in which all are equal."""

    def __init__(self, seed, shape, layout):
        self.generator = torch.Generator().manual_seed(seed)
        self.shape, self.layout = shape, layout
        self.scores = torch.randn(shape, generator=self.generator)

    def step(self, number):
        scale = 10.0 if number % 11 == 10 else 1e-3
        self.scores = self.scores + scale * torch.randn(self.shape, generator=self.generator)
        if number % 13 == 7:
            return laid_out(torch.full(self.shape, -0.25), self.layout)
        if number % 5 == 3:
            return laid_out((self.scores * 8).round() / 8, self.layout)
        return laid_out(self.scores, self.layout)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_selector_that_remembers_says_the_same_as_a_sort(signed, layout):
    shape = (8, 16, 19, 17)
    assert math.prod(shape) >= counting._LEAST
    walk, other = Walk(0, shape, layout), Walk(1, (700,), "contiguous")
    selection = Selection(signed=signed)
    for number in range(40):
        scores, more = walk.step(number), other.step(number)
        total = scores.numel() + more.numel()
        kept = [0, 1, total // 2, total - 1, total][number // 3 % 5] if number % 3 == 0 else total // 2
        masks = tuple(torch.ones_like(part, dtype=torch.bool) for part in (scores, more))
        select(selection, [TopK((scores, more), kept, masks)])
        together = torch.cat([scores.reshape(-1), more])
        chosen = torch.cat([mask.reshape(-1) for mask in masks])
        assert torch.equal(chosen, by_sort(together, kept, signed=signed))


@pytest.mark.parametrize("move", [0, 1, -1, 8191, 8192, -8192, -8193, 1 << 20, -(1 << 20)])
@pytest.mark.parametrize("apart", [1, 20_000])
def test_the_window_is_used_where_it_holds_and_left_where_it_does_not(move, apart):
    """Floats that are so many apart, so that the threshold moves by exactly so many of them."""
    keys = (1 << 28) + apart * torch.randperm(1 << 14, dtype=torch.int32)
    selector = cpu.CpuSelector(signed=False)
    for shifted in (keys, keys + move):
        scores, mask = shifted.view(torch.float32), torch.zeros(1 << 14, dtype=torch.bool)
        selector.select([TopK((scores,), 9000, (mask,))])
        assert torch.equal(mask, by_sort(scores, 9000))
    assert found_in_window(selector) == (-8192 <= move <= 8191)


@pytest.mark.parametrize("extreme", [torch.finfo(torch.float32).max, math.inf, 0.0, 2.0**-149])
@pytest.mark.parametrize("signed", [True, False])
def test_the_window_stops_at_the_ends_of_the_numbers(extreme, signed):
    scores = torch.full((40_000,), extreme)
    scores[::2] *= -1
    selection = Selection(signed=signed)
    for kept in (1, 39_999, 20_000, 20_001):
        mask = torch.zeros_like(scores, dtype=torch.bool)
        select(selection, [TopK((scores,), kept, (mask,))])
        assert torch.equal(mask, by_sort(scores, kept, signed=signed))


def test_the_window_grows_with_the_moves_of_the_threshold_and_shrinks_again():
    selector = cpu.CpuSelector(signed=False)
    keys, mask = (1 << 28) + torch.arange(1 << 14, dtype=torch.int32), torch.zeros(1 << 14, dtype=torch.bool)
    moves = [0, 1 << 20, 0, *[30_000] * 5, *[0] * 100, 5000]
    # the first knows nothing; a great move alone is no reason to look far; moves of 30,000 are beyond 2^14
    expected = [1, 1, 0, 1, 1, 0, 0, 0, *[0] * 100, 1]
    for move, missed in zip(moves, expected, strict=True):
        keys += move
        selector.select([TopK((keys.view(torch.float32),), 9000, (mask,))])
        assert torch.equal(mask, by_sort(keys.view(torch.float32), 9000))
        assert found_in_window(selector) != missed, move


def test_a_selector_sees_that_tensors_are_others_or_lie_elsewhere():
    scores, masks = torch.randn(2, 300), torch.zeros(2, 300, dtype=torch.bool)
    selection = Selection(signed=True)

    def check(*problems):
        select(selection, problems)
        for parts, kept, written, _ in [problem for problem in problems if problem.scores]:
            together = torch.cat([part.reshape(-1) for part in parts])
            assert torch.equal(torch.cat([mask.reshape(-1) for mask in written]), by_sort(together, kept))

    for count in (100, 300, 50):  # at one address
        check(TopK((scores[0, :count],), count // 3, (masks[0, :count],)))
    one, other = scores.unbind()
    mask, more = masks.unbind()
    check(TopK((one, other), 100, (mask, more)))
    check(TopK((one,), 50, (mask,)), TopK((other,), 70, (more,)))
    one.data, mask.data = torch.randn(300), torch.ones(300, dtype=torch.bool)  # as when a model is moved
    check(TopK((one,), 50, (mask,)), TopK((other,), 70, (more,)))
    for empty in (0, 1, 2):
        asked = [TopK((one,), 50 + empty, (mask,)), TopK((other,), 70, (more,))]
        check(*asked)
        check(*asked[:empty], TopK((), 0, ()), *asked[empty:])


def test_a_nan_in_a_later_step_leaves_the_masks_as_they_were():
    scores, mask = torch.randn(50_000), torch.zeros(50_000, dtype=torch.bool)
    selection = Selection(signed=False)
    select(selection, [TopK((scores,), 25_000, (mask,))])
    before = mask.clone()
    for place in (0, 49_999):
        damaged = scores.clone()
        damaged[place] = math.nan
        with pytest.raises(SupermaskError, match="1 of 50000 scores are NaN"):
            select(selection, [TopK((damaged,), 25_000, (mask,))])
        assert torch.equal(mask, before)
        select(selection, [TopK((scores,), 25_000, (mask,))])  # it is forgotten


@pytest.mark.parametrize("signed", [True, False])
def test_a_nan_in_a_layer_with_a_floor_is_refused(signed):
    """The largest of each layer are raised above all others, which must not hide what is no number."""
    scores = {"a": torch.randn(200), "b": torch.randn(300)}
    masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    selection, pool = Selection(signed=signed), Pool(("a", "b"), 40, floor=5)
    selection.select([pool], scores, masks)
    scores["b"][17] = math.nan
    for _ in range(3):
        with pytest.raises(SupermaskError, match="scores are NaN"):
            selection.select([pool], scores, masks)
    scores["b"][17] = 0.0
    selection.select([pool], scores, masks)
    assert sum(int(mask.sum()) for mask in masks.values()) == 40


def test_a_floor_needs_no_new_tensors_at_later_steps():
    scores = {"a": torch.randn(200), "b": torch.randn(300)}
    masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    selection, pool = Selection(signed=True), Pool(("a", "b"), 40, floor=5)
    places = []
    for _ in range(3):
        selection.select([pool], scores, masks)
        places.append([tensor.data_ptr() for tensor in selection._largest._selector._plan.tensors])
    assert places[0] == places[1] == places[2]


@pytest.mark.gpu
@settings(deadline=None, max_examples=50)
@given(cases())
def test_the_mask_is_the_same_on_a_gpu(case):
    scores, k = case
    assert torch.equal(keep_largest(scores.cuda(), k).cpu(), keep_largest(scores, k))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(40))
def test_raising_the_layers_that_lack_their_floor_is_raising_all(dtype, seed):
    """Against floors first and the rest by rank, in plain Python; with ties, infinities and too small budgets."""
    drawn = torch.Generator().manual_seed(seed)
    sizes = [int(size) for size in torch.randint(1, 30, (5,), generator=drawn)]
    scores = {str(i): (torch.randn(size, generator=drawn) * 2 - i).round().to(dtype) for i, size in enumerate(sizes)}
    if seed % 4 == 0:
        scores["2"][::2] = torch.inf
    kept, floor = int(torch.randint(0, sum(sizes) + 1, (1,), generator=drawn)), 1 + seed % 3
    masks = {name: torch.empty_like(score, dtype=torch.bool) for name, score in scores.items()}
    Selection(signed=True).select([Pool(tuple(scores), kept, floor)], scores, masks)
    places = [(name, i) for name, score in scores.items() for i in range(len(score))]
    ordered = sorted(places, key=lambda place: -float(scores[place[0]][place[1]]))  # stable: the first among equals
    first = [place for name in scores for place in [p for p in ordered if p[0] == name][:floor]]
    first.sort(key=places.index)
    chosen = {*(first + [place for place in ordered if place not in first])[:kept]}
    assert all(bool(masks[name][i]) == ((name, i) in chosen) for name, i in places)
