"""The Triton kernels that find the thresholds: a window around the last one, and a radix select over bit patterns.

One grid covers the tensors of all problems: its table has a row for every run of BLOCK neighbours in a tensor's memory.

    count_window    large problems: how many keys lie above a window around the last threshold, and each key inside it
    decide          one program per problem: the threshold, if it still lies in the window
    histogram x 4   the others: 256 bins of their keys' next byte, among the keys that begin with the bytes known so far
    count_ties      if the threshold's ties must be cut: how many of them each block has, blocks in row-major order
    find_cut        one program per problem: the flat index of the last tie that is kept; leaves the scratch at zero
    write           in `gpu_writes`: the masks where they changed, and the masked weights that follow them

A threshold moves little from one training step to the next, so one reading of a large problem's scores mostly does;
the launches for its bytes then end at once. No host takes part in this, so a CUDA graph replays it as it is. Every
block finds the byte that the histogram before it decides by itself, which saves a launch per byte; the problem's first
block notes it for the next kernel. All of it is exact integer arithmetic, so the order of atomics does not matter.
"""

import triton
import triton.language as tl

from supermask.masking.kernels.gpu_blocks import (
    BASE,
    BINS,
    BYTES,
    CHUNK,
    COLUMNS,
    CROWD,
    DIMS,
    FIRST,
    GROUPS,
    LAYOUT,
    LIVE,
    PART,
    PROBLEM,
    SCORES,
    UNCUT,
    bits_of,
    block_bits,
    keys_of,
    part_of,
    reindex,
    state_of,
)


@triton.jit
def _pick(
    histograms: tl.tensor, states: tl.tensor, kept: tl.tensor, problem: tl.tensor, BYTE: tl.constexpr
) -> tl.tensor:
    """Find the byte of the kept-th largest key from its histogram; return the state behind it."""
    if BYTE == 0:
        prefix = tl.full((), 0, tl.int64)
        rank = tl.load(kept + problem).to(tl.int32)
    else:
        before = state_of(states, problem, BYTE - 1)
        prefix = tl.load(before)
        rank = tl.load(before + 1).to(tl.int32)
    bins = tl.arange(0, BINS)
    counts = tl.load(histograms + (problem * BYTES + BYTE) * BINS + bins)
    larger = tl.sum(counts) - tl.cumsum(counts)
    here = (larger < rank) & (rank <= larger + counts)
    # no bin is right when nothing is kept; the last then leads to a key that only a NaN has
    byte = BINS - 1 - tl.sum(tl.where(here, BINS - 1 - bins, 0))
    rank -= tl.sum(tl.where(here, larger, 0))
    equal = tl.sum(tl.where(here, counts, 0))
    return prefix * BINS + byte, rank, equal


@triton.jit
def _note(
    states: tl.tensor, row: tl.tensor, prefix: tl.tensor, rank: tl.tensor, equal: tl.tensor, BYTE: tl.constexpr
) -> None:
    """Store a state, if this is the first block of its problem."""
    if tl.load(row + BASE) + tl.load(row + FIRST) == 0:
        state = state_of(states, tl.load(row + PROBLEM), BYTE)
        tl.store(state, prefix)
        tl.store(state + 1, rank.to(tl.int64))
        tl.store(state + 2, equal.to(tl.int64))


@triton.jit
def count_window(
    blocks: tl.tensor,
    windows: tl.tensor,
    coarse: tl.tensor,
    fine: tl.tensor,
    nans: tl.tensor,
    SIGNED: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    WINDOW: tl.constexpr,
) -> None:
    """Count the keys above the window of their problem, and one by one those inside it.

    `windows` has for each problem the lowest key of its window, -1 for none, and its row in `fine`. `coarse` has for
    each problem GROUPS counts of neighbouring keys, then how many lie above, then how many blocks were too crowded.
    """
    row = blocks + tl.program_id(0).to(tl.int64) * COLUMNS
    problem = tl.load(row + PROBLEM)
    low = tl.load(windows + problem * 2)
    if low >= 0:
        bits = block_bits(row, DTYPE, BLOCK, False)
        keys = keys_of(bits, SIGNED)
        live = tl.arange(0, BLOCK) < tl.load(row + LIVE)
        strange = tl.sum((live & ((bits & 0x7FFFFFFF) > 0x7F800000)).to(tl.int32))
        if strange > 0:
            tl.atomic_add(nans + problem, strange, sem="relaxed")
        offsets = keys - low.to(tl.uint32)
        reached = live & (keys >= low.to(tl.uint32))
        inside = reached & (offsets < WINDOW)
        counts = coarse + problem * (GROUPS + 2)
        above = tl.sum((reached & (offsets >= WINDOW)).to(tl.int32))
        if above > 0:
            tl.atomic_add(counts + GROUPS, above, sem="relaxed")
        found = tl.sum(inside.to(tl.int32))
        if found * CROWD > BLOCK:
            tl.atomic_add(counts + GROUPS + 1, 1, sem="relaxed")
        elif found > 0:
            places = tl.where(inside, offsets, 0).to(tl.int32)
            bins = fine + tl.load(windows + problem * 2 + 1) * WINDOW
            tl.atomic_add(bins + places, 1, mask=inside, sem="relaxed")
            tl.atomic_add(counts + places // (WINDOW // GROUPS), 1, mask=inside, sem="relaxed")


@triton.jit
def _rank_in(counts: tl.tensor, above: tl.tensor, rank: tl.tensor) -> tl.tensor:
    """Return the bin that holds the entry of this rank from the top, its rank there, the bin's count, and if any does.

    `above` entries lie above all bins.
    """
    larger = above + tl.sum(counts) - tl.cumsum(counts)
    here = (larger < rank) & (rank <= larger + counts)
    place = tl.sum(tl.where(here, tl.arange(0, GROUPS), 0))
    inside = rank - tl.sum(tl.where(here, larger, 0))
    return place, inside, tl.sum(tl.where(here, counts, 0)), tl.sum(here.to(tl.int32))


@triton.jit
def decide(
    kept: tl.tensor,
    states: tl.tensor,
    windows: tl.tensor,
    coarse: tl.tensor,
    fine: tl.tensor,
    hits: tl.tensor,
    WINDOW: tl.constexpr,
) -> None:
    """Find the threshold in its problem's window, or note in `hits` that it lies elsewhere; empty the coarse counts."""
    problem = tl.program_id(0).to(tl.int64)
    low = tl.load(windows + problem * 2)
    span: tl.constexpr = WINDOW // GROUPS
    hit = 0
    if low >= 0:
        counts = coarse + problem * (GROUPS + 2)
        crowded = tl.load(counts + GROUPS + 1)
        groups = tl.load(counts + tl.arange(0, GROUPS))
        wanted = tl.load(kept + problem).to(tl.int32)
        group, rank, _, found = _rank_in(groups, tl.load(counts + GROUPS), wanted)
        if (found == 1) & (crowded == 0):
            places = tl.arange(0, GROUPS)
            bins = fine + tl.load(windows + problem * 2 + 1) * WINDOW + group * span
            within = tl.load(bins + places, mask=places < span, other=0)
            place, rank, equal, _ = _rank_in(within, 0, rank)
            state = state_of(states, problem, BYTES - 1)
            tl.store(state, low + group * span + place)
            tl.store(state + 1, rank.to(tl.int64))
            tl.store(state + 2, equal.to(tl.int64))
            hit = 1
        tl.store(counts + tl.arange(0, GROUPS), tl.zeros((GROUPS,), tl.int32))
        tl.store(counts + GROUPS, 0)
        tl.store(counts + GROUPS + 1, 0)
    tl.store(hits + problem, hit)


@triton.jit
def histogram(
    blocks: tl.tensor,
    kept: tl.tensor,
    states: tl.tensor,
    histograms: tl.tensor,
    ties: tl.tensor,
    nans: tl.tensor,
    windows: tl.tensor,
    hits: tl.tensor,
    SIGNED: tl.constexpr,
    DTYPE: tl.constexpr,
    BYTE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Count a byte of the keys that begin with the bytes picked so far, where no window held the threshold."""
    block = tl.program_id(0)
    row = blocks + block.to(tl.int64) * COLUMNS
    problem = tl.load(row + PROBLEM)
    if BYTE == 0:
        tl.store(ties + block, 0)
    if tl.load(hits + problem) == 0:
        _count_byte(row, problem, kept, states, histograms, nans, windows, SIGNED, DTYPE, BYTE, BLOCK)


@triton.jit
def _count_byte(
    row: tl.tensor,
    problem: tl.tensor,
    kept: tl.tensor,
    states: tl.tensor,
    histograms: tl.tensor,
    nans: tl.tensor,
    windows: tl.tensor,
    SIGNED: tl.constexpr,
    DTYPE: tl.constexpr,
    BYTE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    # entries counted straight into memory must lie in the registers as narrow loads leave them, else all are moved
    bits = block_bits(row, DTYPE, BLOCK, BYTE == 0)
    keys = keys_of(bits, SIGNED)
    counted = tl.arange(0, BLOCK) < tl.load(row + LIVE)
    bins = histograms + (problem * BYTES + BYTE) * BINS
    bytes_ = ((keys >> (24 - 8 * BYTE)) & 0xFF).to(tl.int32)
    if BYTE == 0:
        strange = tl.sum((counted & ((bits & 0x7FFFFFFF) > 0x7F800000)).to(tl.int32))
        if (strange > 0) & (tl.load(windows + problem * 2) < 0):  # else the window's pass counted them
            tl.atomic_add(nans + problem, strange, sem="relaxed")
        found = BLOCK
    else:
        prefix, rank, equal = _pick(histograms, states, kept, problem, BYTE - 1)
        _note(states, row, prefix, rank, equal, BYTE - 1)
        counted = counted & ((keys >> (32 - 8 * BYTE)) == prefix.to(tl.uint32))
        found = tl.sum(counted.to(tl.int32))
    # scores share their exponents, so the first bytes fall into few bins and are counted in the block before they
    # meet in memory; behind two bytes few entries are left, and counting them in the block would cost more
    if found * 64 > BLOCK:
        counts = tl.histogram(bytes_, BINS, mask=counted)
        tl.atomic_add(bins + tl.arange(0, BINS), counts, mask=counts > 0, sem="relaxed")
    elif found > 0:
        tl.atomic_add(bins + bytes_, 1, mask=counted, sem="relaxed")


@triton.jit
def count_ties(
    blocks: tl.tensor,
    kept: tl.tensor,
    states: tl.tensor,
    histograms: tl.tensor,
    ties: tl.tensor,
    layouts: tl.tensor,
    hits: tl.tensor,
    SIGNED: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Count the ties at the threshold in each run of BLOCK row-major neighbours, where some of them must go."""
    block = tl.program_id(0)
    row = blocks + block.to(tl.int64) * COLUMNS
    problem = tl.load(row + PROBLEM)
    if tl.load(hits + problem) == 0:
        key, rank, equal = _pick(histograms, states, kept, problem, BYTES - 1)
        _note(states, row, key, rank, equal, BYTES - 1)
    else:
        state = state_of(states, problem, BYTES - 1)
        key = tl.load(state)
        rank = tl.load(state + 1).to(tl.int32)
        equal = tl.load(state + 2).to(tl.int32)
    if rank < equal:
        threshold = key.to(tl.uint32)
        live = tl.load(row + LIVE)
        tied = (keys_of(block_bits(row, DTYPE, BLOCK, True), SIGNED) == threshold) & (tl.arange(0, BLOCK) < live)
        found = tl.sum(tied.to(tl.int32))
        layout = tl.load(row + LAYOUT)
        if (found > 0) & (layout < 0):
            tl.store(ties + block, found)
        elif found > 0:
            first = tl.load(row + FIRST).to(tl.int32)
            home = ties + (block - first // BLOCK)
            for start in range(0, BLOCK, PART):
                keys, lanes = part_of(row, start, DTYPE, SIGNED, BLOCK)
                places = reindex(first + lanes, layouts + layout * 3 * DIMS, 2, 1)
                tl.atomic_add(home + places // BLOCK, 1, mask=(keys == threshold) & (lanes < live), sem="relaxed")


@triton.jit
def _find_block(ties: tl.tensor, start: tl.tensor, count: tl.tensor, rank: tl.tensor) -> tl.tensor:
    """Return which of a problem's blocks holds the tie of this rank, and how many ties come before it."""
    target = tl.full((), 0, tl.int32)
    before = tl.full((), 0, tl.int32)
    seen = tl.full((), 0, tl.int32)
    chunk = tl.full((), 0, tl.int32)
    while chunk < count:
        indices = chunk + tl.arange(0, CHUNK)
        found = tl.load(ties + start + indices, mask=indices < count, other=0)
        above = seen + tl.cumsum(found)
        here = (above >= rank) & (above - found < rank)
        target += tl.sum(tl.where(here, indices, 0))
        before += tl.sum(tl.where(here, above - found, 0))
        seen += tl.sum(found)
        chunk += CHUNK
    return start + target, before


@triton.jit
def find_cut(
    blocks: tl.tensor,
    runs: tl.tensor,
    states: tl.tensor,
    histograms: tl.tensor,
    ties: tl.tensor,
    layouts: tl.tensor,
    cuts: tl.tensor,
    nan_counts: tl.tensor,
    nans: tl.tensor,
    windows: tl.tensor,
    hits: tl.tensor,
    SIGNED: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    WINDOW: tl.constexpr,
) -> None:
    """Find the flat index of a problem's last kept tie; hand out its count of NaN; prepare the next selection.

    That is: zero the counters, and lay the window around the threshold.
    """
    problem = tl.program_id(0).to(tl.int64)
    state = state_of(states, problem, BYTES - 1)
    rank = tl.load(state + 1).to(tl.int32)
    cut = tl.full((), UNCUT, tl.int32)
    if rank < tl.load(state + 2).to(tl.int32):
        threshold = tl.load(state).to(tl.uint32)
        run = runs + problem * 2
        block, before = _find_block(ties, tl.load(run).to(tl.int32), tl.load(run + 1).to(tl.int32), rank)
        row = blocks + block.to(tl.int64) * COLUMNS
        first = tl.load(row + FIRST).to(tl.int32)
        layout = tl.load(row + LAYOUT)
        # the block's number is that of its row-major neighbours now, which may lie anywhere in their tensor
        tensor = tl.load(row - (first // BLOCK).to(tl.int64) * COLUMNS + SCORES).to(tl.pointer_type(DTYPE))
        live = tl.load(row + LIVE)
        rank -= before
        cut = tl.load(row + BASE).to(tl.int32)
        seen = tl.full((), 0, tl.int32)
        for start in range(0, BLOCK, PART):
            lanes = start + tl.arange(0, min(PART, BLOCK))
            places = first + lanes
            memory = places
            if layout >= 0:
                memory = reindex(places, layouts + layout * 3 * DIMS, 1, 2)
            scores = tl.load(tensor + memory, mask=lanes < live, other=0)
            tied = ((keys_of(bits_of(scores), SIGNED) == threshold) & (lanes < live)).to(tl.int32)
            cut += tl.sum(tl.where((tied > 0) & (seen + tl.cumsum(tied) == rank), places, 0))
            seen += tl.sum(tied)
    tl.store(cuts + problem, cut)
    tl.store(nans + problem, tl.load(nan_counts + problem).to(tl.int64))
    tl.store(nan_counts + problem, 0)
    if tl.load(hits + problem) == 0:
        tl.store(histograms + problem * BYTES * BINS + tl.arange(0, BYTES * BINS), tl.zeros((BYTES * BINS,), tl.int32))
    if tl.load(windows + problem * 2 + 1) >= 0:
        low = tl.maximum(tl.load(state) - WINDOW // 2, 0)
        tl.store(windows + problem * 2, tl.minimum(low, 0xFFFFFFFF - WINDOW))
