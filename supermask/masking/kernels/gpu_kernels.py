"""The Triton kernels behind `gpu`: a radix select over bit patterns, and the elementwise ones.

One grid covers the tensors of all problems: its table has a row for every run of BLOCK neighbours in a tensor's memory.

    count_window    large problems: how many keys lie above a window around the last threshold, and each key inside it
    decide          one program per problem: the threshold, if it still lies in the window
    histogram x 4   the others: 256 bins of their keys' next byte, among the keys that begin with the bytes known so far
    count_ties      if the threshold's ties must be cut: how many of them each block has, blocks in row-major order
    find_cut        one program per problem: the flat index of the last tie that is kept; leaves the scratch at zero
    write           the masks where they changed, and the masked weights that follow them

A threshold moves little from one training step to the next, so one reading of a large problem's scores mostly does;
the launches for its bytes then end at once. No host takes part in this, so a CUDA graph replays it as it is. Every
block finds the byte that the histogram before it decides by itself, which saves a launch per byte; the problem's first
block notes it for the next kernel. All of it is exact integer arithmetic, so the order of atomics does not matter.
"""

import triton
import triton.language as tl

# columns of the table of blocks
SCORES = tl.constexpr(0)  # address of the block's first score; of the 16-byte alignment that lets loads be wide
MASK = tl.constexpr(1)  # address of its first mask entry, aligned too
LIVE = tl.constexpr(2)  # entries in the block, 1 to BLOCK
PROBLEM = tl.constexpr(3)
FIRST = tl.constexpr(4)  # the first entry's place in its tensor's memory, a multiple of BLOCK
BASE = tl.constexpr(5)  # the tensor's place in its problem's flat index
LAYOUT = tl.constexpr(6)  # row of the table of layouts, -1 for row-major
FROZEN = tl.constexpr(7)  # address of the first frozen weight, 0 where no weights follow the mask in this launch
VALUE = tl.constexpr(8)  # address of the first masked weight
COLUMNS = tl.constexpr(9)

DIMS = tl.constexpr(5)  # a layout is DIMS sizes, DIMS row-major strides, DIMS strides in memory
BYTES = tl.constexpr(4)
BINS = tl.constexpr(256)
GROUPS = tl.constexpr(256)  # of neighbouring keys in a window, so that its bins are found in two short steps
CROWD = tl.constexpr(16)  # a block with more than one key of so many in the window would queue for the same bins
UNCUT = tl.constexpr(0x7FFFFFFF)  # more than any flat index
CHUNK = tl.constexpr(1024)
PART = tl.constexpr(1024)  # a block goes in parts where its places are divided up, which takes many registers


@triton.jit
def _load(pointer: tl.tensor, live: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    """Load a block; without a mask where it is full, since only then are the loads wide."""
    lanes = tl.arange(0, BLOCK)
    if live >= BLOCK:  # noqa: SIM108 the compiler would take a ternary for a choice between values
        values = tl.load(pointer + lanes)
    else:
        values = tl.load(pointer + lanes, mask=lanes < live, other=0)
    return values


@triton.jit
def _store(pointer: tl.tensor, values: tl.tensor, live: tl.tensor, BLOCK: tl.constexpr) -> None:
    lanes = tl.arange(0, BLOCK)
    if live >= BLOCK:
        tl.store(pointer + lanes, values)
    else:
        tl.store(pointer + lanes, values, mask=lanes < live)


@triton.jit
def _bits(scores: tl.tensor) -> tl.tensor:
    """Return the bits of the equal float32."""
    if scores.dtype == tl.bfloat16:  # shifted, not converted: no subnormal can be lost
        bits = scores.to(tl.uint16, bitcast=True).to(tl.uint32) << 16
    else:
        bits = scores.to(tl.float32).to(tl.uint32, bitcast=True)
    return bits


@triton.jit
def _block_bits(row: tl.tensor, DTYPE: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr) -> tl.tensor:
    """Load a block of scores."""
    pointer = tl.load(row + SCORES).to(tl.pointer_type(DTYPE))
    if WIDE:  # behind the cast, since the compiler forgets what it knew of an integer that becomes a pointer
        pointer = tl.multiple_of(pointer, 16)
    return _bits(_load(pointer, tl.load(row + LIVE), BLOCK))


@triton.jit
def _keys(bits: tl.tensor, SIGNED: tl.constexpr) -> tl.tensor:
    """Map the bits so that unsigned order is that of the scores or of their magnitudes; -0 becomes +0."""
    if SIGNED:
        bits = tl.where(bits == 0x80000000, 0, bits)
        keys = tl.where(bits >= 0x80000000, bits ^ 0xFFFFFFFF, bits | 0x80000000)
    else:
        keys = bits & 0x7FFFFFFF
    return keys


@triton.jit
def _reindex(places: tl.tensor, layout: tl.tensor, FROM: tl.constexpr, TO: tl.constexpr) -> tl.tensor:
    """Turn places along one set of a layout's strides into places along another: 1 is row-major, 2 is memory."""
    result = tl.zeros_like(places)
    for dim in tl.static_range(DIMS):
        size = tl.load(layout + dim).to(tl.int32)
        source = tl.load(layout + FROM * DIMS + dim).to(tl.int32)
        target = tl.load(layout + TO * DIMS + dim).to(tl.int32)
        result += places // source % size * target
    return result


@triton.jit
def _part(
    row: tl.tensor, start: tl.tensor, DTYPE: tl.constexpr, SIGNED: tl.constexpr, BLOCK: tl.constexpr
) -> tl.tensor:
    """Load the part of a block that begins at `start`: its keys, and its lanes in the block."""
    lanes = start + tl.arange(0, min(PART, BLOCK))
    pointer = tl.load(row + SCORES).to(tl.pointer_type(DTYPE))
    scores = tl.load(pointer + lanes, mask=lanes < tl.load(row + LIVE), other=0)
    return _keys(_bits(scores), SIGNED), lanes


@triton.jit
def _state(states: tl.tensor, problem: tl.tensor, BYTE: tl.constexpr) -> tl.tensor:
    """Point at what is known behind one byte: the key so far, the rank of the sought entry among its equals, these."""
    return states + (problem * BYTES + BYTE) * 3


@triton.jit
def _pick(
    histograms: tl.tensor, states: tl.tensor, kept: tl.tensor, problem: tl.tensor, BYTE: tl.constexpr
) -> tl.tensor:
    """Find the byte of the kept-th largest key from its histogram; return the state behind it."""
    if BYTE == 0:
        prefix = tl.full((), 0, tl.int64)
        rank = tl.load(kept + problem).to(tl.int32)
    else:
        before = _state(states, problem, BYTE - 1)
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
        state = _state(states, tl.load(row + PROBLEM), BYTE)
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
        bits = _block_bits(row, DTYPE, BLOCK, False)
        keys = _keys(bits, SIGNED)
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
            state = _state(states, problem, BYTES - 1)
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
    bits = _block_bits(row, DTYPE, BLOCK, BYTE == 0)
    keys = _keys(bits, SIGNED)
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
        state = _state(states, problem, BYTES - 1)
        key = tl.load(state)
        rank = tl.load(state + 1).to(tl.int32)
        equal = tl.load(state + 2).to(tl.int32)
    if rank < equal:
        threshold = key.to(tl.uint32)
        live = tl.load(row + LIVE)
        tied = (_keys(_block_bits(row, DTYPE, BLOCK, True), SIGNED) == threshold) & (tl.arange(0, BLOCK) < live)
        found = tl.sum(tied.to(tl.int32))
        layout = tl.load(row + LAYOUT)
        if (found > 0) & (layout < 0):
            tl.store(ties + block, found)
        elif found > 0:
            first = tl.load(row + FIRST).to(tl.int32)
            home = ties + (block - first // BLOCK)
            for start in range(0, BLOCK, PART):
                keys, lanes = _part(row, start, DTYPE, SIGNED, BLOCK)
                places = _reindex(first + lanes, layouts + layout * 3 * DIMS, 2, 1)
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
    state = _state(states, problem, BYTES - 1)
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
                memory = _reindex(places, layouts + layout * 3 * DIMS, 1, 2)
            scores = tl.load(tensor + memory, mask=lanes < live, other=0)
            tied = ((_keys(_bits(scores), SIGNED) == threshold) & (lanes < live)).to(tl.int32)
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
    keys = _keys(_block_bits(row, DTYPE, BLOCK, True), SIGNED)
    threshold = tl.load(_state(states, problem, BYTES - 1)).to(tl.uint32)
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
            keys_, lanes = _part(row, start, DTYPE, SIGNED, BLOCK)
            places = _reindex(first + lanes, layouts + layout * 3 * DIMS, 2, 1)
            kept = (keys_ > threshold) | ((keys_ == threshold) & (places <= last))
            old = tl.load(pointer + lanes, mask=lanes < live, other=0)
            changed = (kept.to(tl.int8) != old) & (lanes < live)
            tl.store(pointer + lanes, kept.to(tl.int8), mask=changed)
            _follow(row, lanes, kept, changed, WEIGHT)
    else:
        lanes = tl.arange(0, BLOCK)
        kept = (keys > threshold) | (tied & (first + lanes <= last))
        old = _load(tl.multiple_of(pointer, 16), live, BLOCK)
        changed = (kept.to(tl.int8) != old) & (lanes < live)
        if tl.sum(changed.to(tl.int32)) > 0:
            _store(tl.multiple_of(pointer, 16), kept.to(tl.int8), live, BLOCK)
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
    weights = _load(frozen + start, live, BLOCK)
    kept = _load(mask + start, live, BLOCK)
    _store(out + start, tl.where(kept, weights, 0.0), live, BLOCK)


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
    product = _load(gradient + start, live, BLOCK).to(tl.float32) * _load(frozen + start, live, BLOCK).to(tl.float32)
    product = product.to(out.dtype.element_ty)
    if not SIGNED:
        rank = _load(scores + start, live, BLOCK).to(tl.float32)
        sign = (rank > 0).to(tl.float32) - (rank < 0).to(tl.float32)
        product = (product.to(tl.float32) * sign).to(out.dtype.element_ty)
    _store(out + start, product, live, BLOCK)
