"""What all Triton kernels share: the table of blocks, and how a block's scores are read, ranked and placed."""

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
def load_block(pointer: tl.tensor, live: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    """Load a block; without a mask where it is full, since only then are the loads wide."""
    lanes = tl.arange(0, BLOCK)
    if live >= BLOCK:  # noqa: SIM108 the compiler would take a ternary for a choice between values
        values = tl.load(pointer + lanes)
    else:
        values = tl.load(pointer + lanes, mask=lanes < live, other=0)
    return values


@triton.jit
def store_block(pointer: tl.tensor, values: tl.tensor, live: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Store a block; without a mask where it is full, since only then are the stores wide."""
    lanes = tl.arange(0, BLOCK)
    if live >= BLOCK:
        tl.store(pointer + lanes, values)
    else:
        tl.store(pointer + lanes, values, mask=lanes < live)


@triton.jit
def bits_of(scores: tl.tensor) -> tl.tensor:
    """Return the bits of the equal float32."""
    if scores.dtype == tl.bfloat16:  # shifted, not converted: no subnormal can be lost
        bits = scores.to(tl.uint16, bitcast=True).to(tl.uint32) << 16
    else:
        bits = scores.to(tl.float32).to(tl.uint32, bitcast=True)
    return bits


@triton.jit
def block_bits(row: tl.tensor, DTYPE: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr) -> tl.tensor:
    """Load a block of scores."""
    pointer = tl.load(row + SCORES).to(tl.pointer_type(DTYPE))
    if WIDE:  # behind the cast, since the compiler forgets what it knew of an integer that becomes a pointer
        pointer = tl.multiple_of(pointer, 16)
    return bits_of(load_block(pointer, tl.load(row + LIVE), BLOCK))


@triton.jit
def keys_of(bits: tl.tensor, SIGNED: tl.constexpr) -> tl.tensor:
    """Map the bits so that unsigned order is that of the scores or of their magnitudes; -0 becomes +0."""
    if SIGNED:
        bits = tl.where(bits == 0x80000000, 0, bits)
        keys = tl.where(bits >= 0x80000000, bits ^ 0xFFFFFFFF, bits | 0x80000000)
    else:
        keys = bits & 0x7FFFFFFF
    return keys


@triton.jit
def reindex(places: tl.tensor, layout: tl.tensor, FROM: tl.constexpr, TO: tl.constexpr) -> tl.tensor:
    """Turn places along one set of a layout's strides into places along another: 1 is row-major, 2 is memory."""
    result = tl.zeros_like(places)
    for dim in tl.static_range(DIMS):
        size = tl.load(layout + dim).to(tl.int32)
        source = tl.load(layout + FROM * DIMS + dim).to(tl.int32)
        target = tl.load(layout + TO * DIMS + dim).to(tl.int32)
        result += places // source % size * target
    return result


@triton.jit
def part_of(
    row: tl.tensor, start: tl.tensor, DTYPE: tl.constexpr, SIGNED: tl.constexpr, BLOCK: tl.constexpr
) -> tl.tensor:
    """Load the part of a block that begins at `start`: its keys, and its lanes in the block."""
    lanes = start + tl.arange(0, min(PART, BLOCK))
    pointer = tl.load(row + SCORES).to(tl.pointer_type(DTYPE))
    scores = tl.load(pointer + lanes, mask=lanes < tl.load(row + LIVE), other=0)
    return keys_of(bits_of(scores), SIGNED), lanes


@triton.jit
def state_of(states: tl.tensor, problem: tl.tensor, BYTE: tl.constexpr) -> tl.tensor:
    """Point at what is known behind one byte: the key so far, the rank of the sought entry among its equals, these."""
    return states + (problem * BYTES + BYTE) * 3
