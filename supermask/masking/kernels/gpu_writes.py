"""The Triton kernels that write: masks and masked weights behind a selection, and the elementwise ones."""

import triton
import triton.language as tl

from supermask.masking.kernels.gpu_blocks import (
    BASE,
    BYTES,
    CHUNK,
    COLUMNS,
    DIMS,
    FIRST,
    FROZEN,
    LAYOUT,
    LIVE,
    MASK,
    PART,
    PROBLEM,
    UNCUT,
    VALUE,
    block_bits,
    keys_of,
    load_block,
    part_of,
    reindex,
    state_of,
    store_block,
)


@triton.jit
def _follow(row: tl.tensor, lanes: tl.tensor, kept: tl.tensor, changed: tl.tensor, WEIGHT: tl.constexpr) -> None:
    """Write the masked weights whose mask changed, if weights follow in this launch; their bits are copied."""
    frozen = tl.load(row + FROZEN)
    if frozen != 0:
        weights = tl.load(frozen.to(tl.pointer_type(WEIGHT)) + lanes, mask=changed & kept, other=0)
        tl.store(tl.load(row + VALUE).to(tl.pointer_type(WEIGHT)) + lanes, weights, mask=changed)


@triton.jit
def write(
    blocks: tl.tensor,
    runs: tl.tensor,
    states: tl.tensor,
    layouts: tl.tensor,
    cuts: tl.tensor,
    windows: tl.tensor,
    fine: tl.tensor,
    SIGNED: tl.constexpr,
    DTYPE: tl.constexpr,
    WEIGHT: tl.constexpr,
    BLOCK: tl.constexpr,
    WINDOW: tl.constexpr,
) -> None:
    """Write the masks where they changed and the weights that follow them; empty the window's bins for next time."""
    block = tl.program_id(0)
    row = blocks + block.to(tl.int64) * COLUMNS
    problem = tl.load(row + PROBLEM)
    live = tl.load(row + LIVE)
    keys = keys_of(block_bits(row, DTYPE, BLOCK, True), SIGNED)
    threshold = tl.load(state_of(states, problem, BYTES - 1)).to(tl.uint32)
    cut = tl.load(cuts + problem)
    # the tensor's own cut, so that no sum of places needs more than 32 bits
    last = cut - tl.load(row + BASE).to(tl.int32)
    tied = keys == threshold
    first = tl.load(row + FIRST).to(tl.int32)
    layout = tl.load(row + LAYOUT)
    pointer = tl.load(row + MASK).to(tl.pointer_type(tl.int8))
    scattered = 0
    if (layout >= 0) & (cut != UNCUT):
        scattered = tl.sum(tied.to(tl.int32))
    if scattered > 0:
        for start in range(0, BLOCK, PART):
            keys_, lanes = part_of(row, start, DTYPE, SIGNED, BLOCK)
            places = reindex(first + lanes, layouts + layout * 3 * DIMS, 2, 1)
            kept = (keys_ > threshold) | ((keys_ == threshold) & (places <= last))
            old = tl.load(pointer + lanes, mask=lanes < live, other=0)
            changed = (kept.to(tl.int8) != old) & (lanes < live)
            tl.store(pointer + lanes, kept.to(tl.int8), mask=changed)
            _follow(row, lanes, kept, changed, WEIGHT)
    else:
        lanes = tl.arange(0, BLOCK)
        kept = (keys > threshold) | (tied & (first + lanes <= last))
        old = load_block(tl.multiple_of(pointer, 16), live, BLOCK)
        changed = (kept.to(tl.int8) != old) & (lanes < live)
        if tl.sum(changed.to(tl.int32)) > 0:
            store_block(tl.multiple_of(pointer, 16), kept.to(tl.int8), live, BLOCK)
            _follow(row, lanes, kept, changed, WEIGHT)
    if tl.load(windows + problem * 2 + 1) >= 0:
        _empty(runs + problem * 2, block, fine + tl.load(windows + problem * 2 + 1) * WINDOW, WINDOW)


@triton.jit
def _empty(run: tl.tensor, block: tl.tensor, bins: tl.tensor, WINDOW: tl.constexpr) -> None:
    """Zero this block's share of its problem's bins."""
    count = tl.load(run + 1).to(tl.int32)
    share: tl.constexpr = min(CHUNK, WINDOW)
    start = (block - tl.load(run).to(tl.int32)) * share
    while start < WINDOW:
        tl.store(bins + start + tl.arange(0, share), tl.zeros((share,), tl.int32))
        start += count * share


@triton.jit(do_not_specialize=["count"])
def mask_weights(frozen: tl.tensor, mask: tl.tensor, out: tl.tensor, count: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Write the frozen weights where the mask is True, and +0 elsewhere."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    live = count - start
    weights = load_block(frozen + start, live, BLOCK)
    kept = load_block(mask + start, live, BLOCK)
    store_block(out + start, tl.where(kept, weights, 0.0), live, BLOCK)


@triton.jit(do_not_specialize=["count"])
def straight_through(
    gradient: tl.tensor,
    frozen: tl.tensor,
    scores: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    SIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Multiply as torch does: in float32, rounded to the tensors' dtype after each product."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    live = count - start
    product = load_block(gradient + start, live, BLOCK).to(tl.float32) * load_block(frozen + start, live, BLOCK).to(
        tl.float32
    )
    product = product.to(out.dtype.element_ty)
    if not SIGNED:
        rank = load_block(scores + start, live, BLOCK).to(tl.float32)
        sign = (rank > 0).to(tl.float32) - (rank < 0).to(tl.float32)
        product = (product.to(tl.float32) * sign).to(out.dtype.element_ty)
    store_block(out + start, product, live, BLOCK)
