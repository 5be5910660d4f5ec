"""The GPU's kernels: on a GPU under its marker; without one in Triton's interpreter, on the CPU's tensors."""

import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.errors import SupermaskError
from supermask.masking.kernels.top_k import TopK, Weights

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
if not CUDA and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("run by test_gpu_kernels_interpreted, or with TRITON_INTERPRET=1", allow_module_level=True)
# NumPy, behind the interpreter, warns of overflow
pytestmark = [pytest.mark.gpu if CUDA else pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.*")]


# what the interpreter takes minutes for and a GPU does not
SLOW = () if CUDA else pytest.mark.slow


def further(*values):
    """Return more values of a parameter."""
    return [pytest.param(value, marks=SLOW) for value in values]


def crossed(first, second, fast):
    """Return all pairs of two parameters. Pairs that are not `fast` are slow tests; the fast ones use every value."""
    return [pytest.param(one, other, marks=() if fast(one, other) else SLOW) for one in first for other in second]


from supermask.masking.kernels import gpu_kernels, gpu_plan  # noqa: E402 not where the kernels cannot be defined
from supermask.masking.kernels.gpu import GpuSelector, mask_weights, straight_through  # noqa: E402

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# a block of few scores makes many of few; the larger one also counts sparse bytes straight into memory
BLOCKS = (256, 4096) if CUDA else (32, 256)
AWKWARD = (0.0, -0.0, 1.0, -1.0, 2.0**-24, 2.0**-133, 2.0**-149, -(2.0**-149), math.inf, -math.inf)
LAYOUTS = ("contiguous", "transposed", "reversed", "strided", "misaligned")


def laid_out(tensor, layout):
    """Equal entries at other places of the device's memory."""
    tensor = tensor.to(DEVICE)
    if layout == "transposed":
        return tensor.mT.contiguous().mT if tensor.ndim >= 2 else tensor
    if layout == "reversed":
        dims = tuple(reversed(range(tensor.ndim)))
        return tensor.permute(dims).contiguous().permute(dims)
    if layout == "strided":
        wide = torch.zeros((*tensor.shape, 2), dtype=tensor.dtype, device=DEVICE)
        wide[..., 0] = tensor
        return wide[..., 0]
    if layout == "misaligned":
        flat = torch.zeros(tensor.numel() + 1, dtype=tensor.dtype, device=DEVICE)
        flat[1:] = tensor.flatten()
        return flat[1:].view(tensor.shape)
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.contiguous()


def oracle(scores, kept, signed):
    """The definition: the first `kept` flat indices by descending score, then by index, given back tensor by tensor."""
    flat = torch.cat([tensor.double().flatten() for tensor in scores])
    ranked = (flat if signed else flat.abs()).tolist()
    chosen = sorted(range(len(ranked)), key=lambda index: (-ranked[index], index))[:kept]
    mask = torch.zeros(len(ranked), dtype=torch.bool)
    mask[chosen] = True
    parts = mask.split([tensor.numel() for tensor in scores])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, scores, strict=True)]


def problem(scores, kept, layouts=None):
    """A problem among copies on the device; its masks begin with the wrong content."""
    layouts = layouts or ["contiguous"] * len(scores)
    there = [laid_out(tensor, layout) for tensor, layout in zip(scores, layouts, strict=True)]
    masks = [torch.ones_like(tensor, dtype=torch.bool) for tensor in there]
    return TopK(tuple(there), kept, tuple(masks))


def check(selector, problems, signed):
    selector.select(problems)
    for scores, kept, masks, _ in problems:
        wanted = oracle([tensor.cpu() for tensor in scores], kept, signed)
        for mask, want in zip(masks, wanted, strict=True):
            assert torch.equal(mask.cpu(), want)
    assert selector.nans.tolist() == [0] * len(problems)


@st.composite
def problems(draw):
    # an awkward dtype alone and beside others
    dtypes = draw(st.sampled_from([DTYPES, *((dtype,) for dtype in DTYPES)]))
    number = st.sampled_from(AWKWARD) | st.integers(-2, 2).map(float) | st.floats(-1, 1)
    result = []
    for _ in range(draw(st.integers(1, 2))):
        tensors, layouts = [], []
        for _ in range(draw(st.integers(1, 3))):
            shape = draw(st.lists(st.integers(0, 4) | st.just(4), max_size=3).map(tuple))
            few = draw(st.lists(number, min_size=1, max_size=10))
            generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
            numbers = torch.from_numpy(generator.choice(few, size=shape))
            tensors.append(numbers.to(draw(st.sampled_from(dtypes))))
            layouts.append(draw(st.sampled_from(LAYOUTS)))
        total = sum(tensor.numel() for tensor in tensors)
        kept = draw(st.sampled_from([0, min(1, total), total // 2, max(0, total - 1), total]) | st.integers(0, total))
        result.append(problem(tensors, kept, layouts))
    return result


@settings(deadline=None, max_examples=30 if CUDA else 12)
@given(problems(), st.booleans(), st.sampled_from(BLOCKS))
def test_the_masks_are_those_of_the_definition_and_the_scores_stay_as_they_were(cases, signed, block):
    before = [[tensor.clone() for tensor in case.scores] for case in cases]
    check(GpuSelector(signed, block=block), cases, signed)
    for case, copies in zip(cases, before, strict=True):
        for tensor, copy in zip(case.scores, copies, strict=True):
            assert torch.equal(tensor, copy)
            assert torch.equal(tensor.signbit(), copy.signbit())


@settings(deadline=None, max_examples=8 if CUDA else 3)
@given(st.integers(0, 2**32 - 1), st.integers(0, 900), st.integers(1, 32), st.booleans())
def test_any_bit_patterns_are_ranked(seed, kept, varying, signed):
    """Few varying bits make many ties, wherever in the pattern two bytes meet."""
    generator = np.random.default_rng(seed)
    shift = int(generator.integers(0, 33 - varying))
    pattern = generator.integers(0, 2**32, dtype=np.uint32)
    noise = generator.integers(0, 2**varying, size=900, dtype=np.uint64) << np.uint64(shift)
    scores = torch.from_numpy((pattern ^ noise.astype(np.uint32)).view(np.float32).copy()).nan_to_num(math.inf)
    check(GpuSelector(signed, block=256), [problem([scores], kept)], signed)


@pytest.mark.parametrize("layout", [*LAYOUTS, "channels_last"])
@pytest.mark.parametrize("kept", [121, *further(1, 239)])
def test_ties_across_tensors_and_blocks_keep_the_lowest_row_major_indices(layout, kept):
    case = problem([torch.full((2, 3, 4, 5), -0.5)] * 2, kept, [layout, layout])
    check(GpuSelector(False, block=BLOCKS[0]), [case], False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("signed", [False, True])
def test_minus_zero_ties_with_zero_and_not_with_the_least_subnormal(dtype, signed):
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    scores = torch.tensor([-0.0, 0.0, -0.0, least, -0.0, 0.0], dtype=torch.float64).to(dtype)
    check(GpuSelector(signed, block=BLOCKS[0]), [problem([scores], 3)], signed)


@pytest.mark.parametrize("kept", [1500, *further(100, 2900)])
def test_a_permuted_tensor_of_more_than_one_part_is_cut_in_row_major_order(kept):
    """The parts in which a block's places are divided up have 1024 entries."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-2, 3, (30, 100), generator=generator).float()
    check(GpuSelector(True, block=2048), [problem([scores], kept, ["transposed"])], True)


@pytest.mark.parametrize("dims", [[5, 0, 4, 1, 3, 2], [0, 5, 1, 4, 2, 3]])
def test_more_dimensions_than_the_tables_hold_are_no_matter(dims):
    scores = torch.arange(64.0).remainder(5).reshape((2,) * 6).permute(dims)
    masks = torch.empty_like(scores, dtype=torch.bool)
    check(GpuSelector(True, block=BLOCKS[0]), [TopK((scores.to(DEVICE),), 20, (masks.to(DEVICE),))], True)


def test_a_mask_may_lie_in_memory_in_another_way_than_its_scores():
    case = problem([torch.randn(6, 7)], 20, ["transposed"])
    mask = torch.ones(6, 7, dtype=torch.bool, device=DEVICE)
    check(GpuSelector(False, block=BLOCKS[0]), [case._replace(masks=(mask,))], False)


@pytest.mark.parametrize("layout", ["misaligned", "strided", "transposed", "contiguous"])
def test_the_kernels_work_in_place_where_wide_loads_are_allowed(layout):
    selector = GpuSelector(False, block=BLOCKS[0])
    selector.select([problem([torch.randn(8, 9)], 7, [layout])])
    assert bool(selector._plan.scores) == (layout in ("misaligned", "strided"))


def test_one_selector_goes_through_changing_scores_counts_and_tensors():
    generator = torch.Generator().manual_seed(0)
    selector = GpuSelector(False, block=BLOCKS[0])

    def fresh(*shape):
        # ties, and numbers that differ in their last bytes
        coarse = torch.randint(-9, 10, shape, generator=generator) / 8
        return torch.where(
            torch.rand(shape, generator=generator) < 0.3, coarse, torch.randn(shape, generator=generator)
        )

    cases = [problem([fresh(5, 8), fresh(30)], 35), problem([fresh(4, 9)], 3, ["strided"])]
    for kept in (35, 35, 0, 70, 12):
        cases = [cases[0]._replace(kept=kept), cases[1]]
        check(selector, cases, False)
        for case in cases:
            for tensor in case.scores:
                tensor.copy_(fresh(*tensor.shape))
    check(selector, [*reversed(cases)], False)
    check(selector, [problem([fresh(9)], 4)], False)
    check(selector, cases, False)


def with_window(signed=False):
    """A selector that looks in a window of few keys first, among few scores too."""
    return GpuSelector(signed, block=256 if CUDA else 64, window=1024, large=50)


@pytest.mark.parametrize(
    ("dtype", "signed"),
    crossed(DTYPES, [False, True], lambda *both: both in ((torch.float32, False), (torch.float16, True))),
)
def test_a_threshold_is_found_in_its_window_or_elsewhere(dtype, signed):
    """Keys are moved by a few units in the last place, which stays in the window, or by all the bits."""
    generator = torch.Generator().manual_seed(0)
    selector = with_window(signed)
    cases = [
        problem([torch.randn(20, 13, generator=generator).to(dtype)], 100, ["transposed"]),
        problem([torch.randn(n, generator=generator).to(dtype) for n in (90, 31)], 70),
        problem([torch.randn(9, generator=generator).to(dtype)], 4),
    ]
    whole = torch.int32 if dtype is torch.float32 else torch.int16
    found = []
    for step in range(6):
        check(selector, cases, signed)
        found.append(selector._plan.hits.tolist())
        for case in cases:
            for tensor in case.scores:
                if step == 3:
                    tensor.mul_(-5.3)
                else:
                    moved = tensor.contiguous().view(whole) + torch.randint(-3, 4, tensor.shape).to(DEVICE, whole)
                    tensor.copy_(moved.view(dtype))
    few = [1, 1, 0]  # the third problem is too small for a window
    assert found == [[0, 0, 0], few, few, few, [0, 0, 0], few] or dtype is not torch.float32
    assert not selector._plan.fine.any()
    assert not selector._plan.coarse.any()


@pytest.mark.parametrize("kept", [0, 299, *further(1, 300)])
def test_a_window_that_is_crowded_or_of_no_use_is_left(kept):
    selector = with_window()
    cases = [problem([torch.full((300,), 0.5)], kept)]
    for _ in range(3):
        check(selector, cases, False)
        assert selector._plan.hits.tolist() == [0]
    cases[0].scores[0].copy_(torch.linspace(0.1, 0.9, 300))
    for _ in range(2):
        check(selector, cases, False)


def test_nan_are_counted_once_in_a_window_and_behind_it():
    selector = with_window()
    case = problem([torch.linspace(0.1, 0.9, 100)], 40)
    check(selector, [case], False)
    case.scores[0][3] = math.nan
    selector.select([case])
    assert selector.nans.tolist() == [1]
    case.scores[0].copy_(7 * torch.linspace(0.1, 0.9, 100))
    case.scores[0][5:7] = math.nan
    selector.select([case])
    assert selector._plan.hits.tolist() == [0]
    assert selector.nans.tolist() == [2]


@pytest.mark.parametrize(
    ("layout", "other"),
    crossed(
        [*LAYOUTS, "channels_last"],
        ["same", "contiguous", "half"],
        lambda layout, other: other == "same" or layout == "transposed",
    ),
)
def test_weights_follow_their_masks_wherever_they_lie(layout, other):
    """With the scores' layout and one width for all the kernel writes them, else a launch of their own."""
    selector, shapes = with_window(), [(2, 3, 4, 5), (6, 7)]
    layouts = [layout, layout if layout != "channels_last" else "transposed"]
    case = problem([torch.randn(shape) for shape in shapes], 70, layouts)
    pairs = []
    for shape, its in zip(shapes, layouts, strict=True):
        dtype = torch.float16 if other == "half" and len(shape) == 2 else torch.float32
        frozen = laid_out(torch.randn(shape).to(dtype), its if other == "same" else "contiguous")
        pairs.append(Weights(frozen, frozen.clone()))
    case = case._replace(weights=tuple(pairs))
    for _ in range(3):
        before = [pair.value._version for pair in pairs]
        check(selector, [case], False)
        for mask, pair, version in zip(case.masks, pairs, before, strict=True):
            assert torch.equal(pair.value, torch.where(mask, pair.frozen, 0.0))
            assert not pair.value[~mask].signbit().any()
            assert pair.value._version > version
        for tensor in case.scores:
            tensor.copy_(torch.randn(tensor.shape))


def test_a_selection_that_failed_half_way_leaves_nothing_to_the_next(monkeypatch):
    selector, case = with_window(), problem([torch.randn(200)], 50)
    check(selector, [case], False)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gpu_kernels, "find_cut", {(1,): interrupted})
        with pytest.raises(KeyboardInterrupt):
            selector.select([case])
    check(selector, [case], False)


def test_the_tables_are_made_once_for_the_same_tensors():
    selector = GpuSelector(False, block=BLOCKS[0])
    case = problem([torch.randn(20)], 5, ["strided"])
    selector.select([case])
    plan, nans = selector._plan, selector.nans
    selector.select([case._replace(kept=7)])
    assert selector._plan is plan
    assert selector.nans is nans


@pytest.mark.parametrize("signed", [False, True])
def test_nan_are_counted_and_forgotten(signed):
    selector = GpuSelector(signed, block=BLOCKS[0])
    cases = [problem([torch.randn(40), torch.randn(3)], 20), problem([torch.randn(5, 5)], 20, ["transposed"])]
    cases.append(problem([torch.empty(0)], 0))
    cases[0].scores[0][7:9] = math.nan
    cases[0].scores[1][0] = -math.nan
    cases[1].scores[0][3, 3] = math.nan
    selector.select(cases)
    assert selector.nans.tolist() == [3, 1, 0]
    assert selector.nans.dtype is torch.int64
    for case in cases:
        for tensor in case.scores:
            tensor.nan_to_num_(0.0)
    check(selector, cases, signed)


def test_there_may_be_nothing_to_select_from():
    selector = GpuSelector(False)
    selector.select([])
    selector.select([problem([torch.empty(0, 3)], 0), TopK((), 0, ())])
    assert selector.nans.tolist() == [0, 0]


def test_the_cut_is_found_behind_any_number_of_blocks():
    """Alone: more blocks than the kernel adds up at once would take the interpreter a minute."""
    block, blocks, rank = 16, 2500, 30_000
    case = problem([torch.zeros(block * blocks)], rank)
    plan = gpu_plan.plan_for([case], block, (), window=256, large=2**30)
    plan.states[0, -1] = torch.tensor([0, rank, block * blocks])
    plan.ties.fill_(block)
    tables = (plan.blocks, plan.runs, plan.states, plan.histograms, plan.ties, plan.layouts)
    counters = (plan.cuts, plan.nan_counts, plan.nans, plan.windows, plan.hits)
    constants = {"SIGNED": False, "DTYPE": plan.dtype, "BLOCK": block, "WINDOW": 256}
    gpu_kernels.find_cut[(1,)](*tables, *counters, **constants, enable_fp_fusion=False)
    assert plan.cuts.tolist() == [rank - 1]


@pytest.mark.parametrize("kept", [-1, 4])
def test_a_count_out_of_range_is_refused(kept):
    with pytest.raises(SupermaskError, match=f"Cannot keep {kept} of 3 scores"):
        GpuSelector(False).select([problem([torch.zeros(3)], kept)])


def test_more_scores_than_32_bits_count_are_refused():
    scores = torch.zeros(1, device=DEVICE).expand(2**30)
    case = TopK((scores, scores), 1, (scores.bool(), scores.bool()) if CUDA else (scores, scores))
    with pytest.raises(SupermaskError, match=f"among {2**31} scores at once"):
        GpuSelector(False).select([case])


def test_tensors_on_several_devices_are_refused():
    case = problem([torch.zeros(3)], 1)
    with pytest.raises(SupermaskError, match="meta at once"):
        GpuSelector(False).select([case._replace(masks=(case.masks[0].to("meta"),))])


def bits(tensor):
    """The bits, with one pattern for every NaN: which of them comes out depends on the processor."""
    whole = torch.where(tensor.isnan(), torch.full_like(tensor, math.nan), tensor)
    return whole.contiguous().view(torch.int32 if tensor.dtype is torch.float32 else torch.int16)


def awkward(seed, dtype, layout, shape):
    generator = np.random.default_rng(seed)
    numbers = torch.from_numpy(generator.normal(size=shape))
    extremes = [*AWKWARD, math.nan, 1e38]
    if dtype is torch.bfloat16 and not CUDA:
        # the interpreter cuts bits off where the device rounds, so their products must need neither
        numbers = numbers.mul(4).round()
        extremes = [number for number in extremes if abs(number) > 1e-9 or number == 0]
    special = torch.from_numpy(generator.choice(extremes, size=shape))
    chosen = torch.where(torch.from_numpy(generator.random(shape) < 0.5), numbers, special)
    return laid_out(chosen.to(dtype), layout)


SHAPES = {"channels_last": (2, 3, 4, 5), "contiguous": (90, 100), "strided": (3, 7), "transposed": (3, 7)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("other", [None, *SHAPES])
def test_masked_weights_are_those_of_torch(dtype, layout, other):
    """With one layout for all the kernel writes them, with several torch."""
    shape = SHAPES[layout]
    frozen = awkward(0, dtype, layout, shape)
    mask = laid_out(torch.rand(shape) < 0.5, layout)
    if other not in (None, "channels_last"):
        mask = laid_out(mask, other)
    out = torch.full_like(frozen, math.nan)
    mask_weights(frozen, mask, out)
    assert torch.equal(bits(out), bits(torch.where(mask, frozen, 0.0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("odd", [None, "dtype", "layout"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_straight_through_gradient_is_that_of_torch(dtype, layout, odd, signed):
    gradient, frozen, scores = (awkward(seed, dtype, layout, SHAPES[layout]) for seed in range(3))
    if odd == "dtype":
        frozen = frozen.to(torch.float32)
    if odd == "layout":
        scores = laid_out(scores, "transposed")
    wanted = gradient * frozen
    if not signed:
        wanted = wanted * scores.sign()
    result = straight_through(gradient, frozen, None if signed else scores)
    assert result.dtype is wanted.dtype
    assert result.stride() == wanted.stride()
    assert torch.equal(bits(result), bits(wanted))


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_elementwise_kernels_take_tensors_of_one_entry_or_none(shape):
    ones = torch.ones(shape, device=DEVICE)
    out = torch.zeros_like(ones)
    mask_weights(ones, ones > 0, out)
    assert torch.equal(out, ones)
    assert torch.equal(straight_through(ones, ones, -ones), -ones)


gpu_only = pytest.mark.skipif(not CUDA, reason="needs a CUDA device")


def random_problems():
    scores = [torch.randn(300, 1000), torch.randn(64, 3, 3, 3), torch.randint(-4, 5, (500, 70)) / 4, torch.randn(999)]
    return [
        problem(scores[:2], 5000, ["contiguous", "channels_last"]),
        problem(scores[2:], 12_345, ["transposed", "strided"]),
    ]


@gpu_only
def test_a_selection_among_known_tensors_never_waits_for_the_device():
    cases = random_problems()
    selector = GpuSelector(False)
    selector.select(cases)
    try:
        torch.cuda.set_sync_debug_mode("error")
        selector.select([case._replace(kept=case.kept + 1) for case in cases])
        selector.select(cases)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check(selector, cases, False)


@gpu_only
def test_a_cuda_graph_selects_among_the_scores_of_the_day():
    cases = random_problems()
    selector = GpuSelector(False)
    selector.select(cases)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        selector.select(cases)
    for _ in range(3):
        for case in cases:
            for tensor in case.scores:
                tensor.copy_(torch.randn(tensor.shape))
        graph.replay()
        for scores, kept, masks, _ in cases:
            wanted = oracle([tensor.cpu() for tensor in scores], kept, False)
            assert all(torch.equal(mask.cpu(), want) for mask, want in zip(masks, wanted, strict=True))


@gpu_only
def test_new_tensors_are_refused_while_a_graph_is_captured():
    selector = GpuSelector(False)
    selector.select(random_problems())
    fresh = random_problems()
    with pytest.raises(SupermaskError, match="select once before"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        selector.select(fresh)


@gpu_only
def test_a_network_of_millions_of_scores_is_selected_as_a_sort_does():
    scores = torch.rand(3, 4_000_001, device=DEVICE) - 0.5
    mask = torch.empty_like(scores, dtype=torch.bool)
    selector = GpuSelector(False)
    for kept in (1, 5_000_000, scores.numel() - 1):
        selector.select([TopK((scores,), kept, (mask,))])
        order = torch.sort(scores.abs().flatten(), descending=True, stable=True).indices
        wanted = torch.zeros(scores.numel(), dtype=torch.bool, device=DEVICE)
        wanted[order[:kept]] = True
        assert torch.equal(mask.flatten(), wanted)


@pytest.mark.skipif(CUDA, reason="the interpreter counts")
def test_a_steady_selection_reads_scores_twice_and_the_mask_once(monkeypatch):
    """9 bytes for each weight, or 10 where each block has a change, and 8 for each weight that changes."""
    from triton.runtime import interpreter

    generator = torch.Generator().manual_seed(0)
    count = 8192
    scores = torch.randn(count, generator=generator)
    mask, value = torch.zeros(count, dtype=torch.bool), torch.zeros(count)
    frozen = torch.ones(count)
    problems = [TopK((scores,), count // 2, (mask,), (Weights(frozen, value),))]
    selector = GpuSelector(False, block=256, window=1 << 16, large=1024)
    selector.select(problems)
    before = mask.clone()
    scores *= 1 + 1e-4 * torch.randn(count, generator=generator)  # a small step: the threshold stays in its window
    names = {"scores": scores, "mask": mask, "frozen": frozen, "value": value}
    moved = dict.fromkeys(names, 0)

    def count_bytes(pointers, lanes, size):
        for name, tensor in names.items():
            first = tensor.data_ptr()
            there = (pointers >= first) & (pointers < first + tensor.nbytes) & lanes
            moved[name] += size * int(there.sum())

    builder = type(interpreter.interpreter_builder)
    load, store = builder.create_masked_load, builder.create_masked_store

    def counted_load(self, pointers, lanes, *rest):
        count_bytes(pointers.data, lanes.data, pointers.get_element_ty().primitive_bitwidth // 8)
        return load(self, pointers, lanes, *rest)

    def counted_store(self, pointers, numbers, lanes, *rest):
        count_bytes(pointers.data, lanes.data, pointers.get_element_ty().primitive_bitwidth // 8)
        return store(self, pointers, numbers, lanes, *rest)

    monkeypatch.setattr(builder, "create_masked_load", counted_load)
    monkeypatch.setattr(builder, "create_masked_store", counted_store)
    selector.select(problems)
    monkeypatch.undo()
    assert torch.equal(mask, oracle([scores], count // 2, False)[0])
    changed, added = int((mask != before).sum()), int((mask & ~before).sum())
    assert 0 < changed < count // 100
    written = 256 * int((mask != before).view(-1, 256).any(1).sum())  # masks go block by block, weights one by one
    assert moved == {"scores": 8 * count, "mask": count + written, "frozen": 4 * added, "value": 4 * changed}
