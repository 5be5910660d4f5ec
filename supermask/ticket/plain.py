"""A reader of ticket files that needs NumPy and Python's standard library alone: the format, written down as code.

    python plain.py FILE

This file may be copied: it imports nothing of its package, whose reader is fast, compiled and written apart from it.
Here all is slow and obvious, and FORMAT.md beside it says the same in words. It compares the checksums, and the
random weights with their digest; a file with sound checksums that no writer writes is not always refused.
"""

import hashlib
import json
import math
import struct
import sys
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Plain:
    """What a ticket's file holds and regrows.

    Attributes:
        seed: of the random weights.
        frozen: random weights by parameter, float32, as they were drawn first; empty over given weights.
        masks: bool by parameter, True = kept; a frozen parameter without one is whole.
        values: what the network computes with, by parameter: the kept weights treated, the pruned ones +0, float32.
        constants: the number that fills a parameter, by its name.
        stored: tensors that were learned or measured, by name; bfloat16 as float32.
        header: the rest of what the file says, as JSON has it.

    """

    seed: int
    frozen: dict[str, Array]
    masks: dict[str, Array]
    values: dict[str, Array]
    constants: dict[str, float]
    stored: dict[str, Array]
    header: dict[str, Any]


def read(data: bytes) -> Plain:
    """Return what the bytes of a ticket's file hold.

    Raises:
        ValueError: they are not those of a ticket, are damaged, or hold several tickets in one.

    """
    text, coded, learned = sections(data)
    header = json.loads(inflated(text))
    if "tasks" in header:
        raise ValueError("it holds several tickets in one file; read it with supermask.superposition.")
    own, seed = header.pop("file"), header["seed"]
    frozen = {name: grown(header, name) for name in header["weights"]}
    if frozen and digest(frozen) != header["digest"]:
        raise ValueError("the random weights that its seed grows here are not those that it was made with.")
    stream, masks, values = Stream(coded), {}, dict(frozen)
    for name, shape in own.get("masks", {}).items():
        gain, reshuffled, *there = own.get("treatments", {}).get(name, [1.0, False, False, False])
        known = side_information(frozen[name], seed, name) if name in frozen else None
        free, locked = preset(own, seed, name, shape)
        code = stream.part()
        if code[:1] == DRAWN:
            entries = drawn_entries(Stream(code[1:]), seed, name, free.size)
        else:
            entries = decode(code, shape, free.reshape(-1).tolist(), known)
        masks[name] = np.array(entries, bool).reshape(shape) | locked
        symbols = [read_symbols(Stream(stream.part()), masks[name], known) if is_there else None for is_there in there]
        if name in frozen:
            values[name] = treated(header, name, masks[name], gain, reshuffled, *symbols)
    stored = read_tensors(inflated(learned)) if learned else {}
    return Plain(seed, frozen, masks, values, header.pop("constants"), stored, header)


DRAWN = bytes([3])
"""The first byte of a mask that bits draw."""


# ---- the outside


def sections(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the header, the coded masks and the stored tensors of a file, each still coded."""
    if data[:8] != b"\x89ticket\x02" or len(data) < 64:
        raise ValueError("it does not begin as a ticket of format 2 does.")
    lengths = struct.unpack("<IQQ", data[8:28])
    if zlib.crc32(data[:28]) != int.from_bytes(data[28:32], "little") or len(data) != 64 + sum(lengths):
        raise ValueError("its prefix is damaged, or it is cut short.")
    if hashlib.sha256(data[:32] + data[64:]).digest() != data[32:64]:
        raise ValueError("it is damaged: its checksum does not fit.")
    first, second = 64 + lengths[0], 64 + lengths[0] + lengths[1]
    return data[64:first], data[first:second], data[second:]


def inflated(section: bytes) -> bytes:
    """Return a section inflated (RFC 1951), as if `DICTIONARY` had gone before."""
    inflater = zlib.decompressobj(-15, DICTIONARY)
    return inflater.decompress(section) + inflater.flush()


TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
TYPES |= {"BOOL": "?", "BF16": "<u2"}


def read_tensors(data: bytes) -> dict[str, Array]:
    """Return the tensors of a safetensors file: eight bytes of a length, JSON of that length, then the numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, about in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in TYPES:
            raise ValueError(f"its tensor {name!r} is of the type {about['dtype']}, which this reader does not know.")
        first, end = about["data_offsets"]
        array = np.frombuffer(data[start + first : start + end], TYPES[about["dtype"]])
        if about["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        found[name] = array.reshape(about["shape"])
    return found


# ---- the generator


def words(count: int, seed: int, *purpose: str) -> Array:
    """Return the first words of a stream, uint64 (count,): Philox 4x64-10 (Salmon et al. 2011).

    Its key is a hash of the seed and the purpose; its counter runs 1, 2, 3, ..., and each block gives four words.
    """
    label = "\0".join([str(seed), *purpose]).encode()
    key = np.frombuffer(hashlib.blake2b(label, digest_size=16, person=b"supermask").digest(), "<u8")
    blocks = np.zeros((4, -(-count // 4)), np.uint64)
    blocks[0] = np.arange(1, 1 + blocks.shape[1])  # below 2^64 blocks the other words of the counter stay 0
    return philox(blocks, int(key[0]), int(key[1])).T.reshape(-1)[:count]


def philox(counter: Array, first: int, second: int) -> Array:
    """Return the blocks of counters, both uint64 (4, n), with this key."""
    a, b, c, d = counter
    for _ in range(10):
        high_a, low_a = product(a, 0xD2E7470EE14C6C93)
        high_c, low_c = product(c, 0xCA5A826395121157)
        a, b, c, d = high_c ^ b ^ np.uint64(first), low_c, high_a ^ d ^ np.uint64(second), low_a
        first, second = (first + 0x9E3779B97F4A7C15) % 2**64, (second + 0xBB67AE8584CAA73B) % 2**64
    return np.stack([a, b, c, d])


def product(numbers: Array, factor: int) -> tuple[Array, Array]:
    """Return the upper and the lower 64 bits of uint64 numbers times a factor."""
    half, low = np.uint64(32), np.uint64(2**32 - 1)
    upper, lower = np.uint64(factor >> 32), np.uint64(factor % 2**32)
    first, second = numbers >> half, numbers & low
    middle = first * lower + (second * lower >> half)
    carried = second * upper + (middle & low)
    return first * upper + (middle >> half) + (carried >> half), numbers * np.uint64(factor)


def uniform(count: int, *stream: Any) -> Array:
    """Return the first numbers of a stream on (0, 1), float64: the upper 52 bits of a word and one half."""
    return ((words(count, *stream) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def drawn(about: dict[str, Any], count: int, fans: Sequence[int], stream: tuple[Any, ...]) -> Array:
    """Return the first weights of a distribution, float64 (count,)."""
    name = about["name"]
    if name == "signed_constant":  # a bit each, the lowest of a word first
        bits = np.unpackbits(
            words(-(-count // 64), *stream).astype("<u8").view(np.uint8), count=count, bitorder="little"
        )
        return deviation(about, fans) * (2.0 * bits.astype(np.float64) - 1.0)
    if name in ("kaiming_normal", "xavier_normal"):
        return deviation(about, fans) * normal_quantile(uniform(count, *stream))
    if name == "truncated_normal":  # the first that fall inside
        inside, tried = np.empty(0), 2 * count + 64
        while inside.size < count:
            normal = normal_quantile(uniform(tried, *stream))
            inside, tried = normal[np.abs(normal) <= about["cut"]], 2 * tried
        return about["gain"] / math.sqrt(fan(about, fans)) * inside[:count]
    if name == "sign_of":
        return np.where(drawn(about["of"], count, fans, stream) < 0.0, -1.0, 1.0) * deviation(about["of"], fans)
    if name == "uniform_integer":
        steps = np.uint64(2 * about["bound"] + 1)
        numbers = (words(count, *stream) >> np.uint64(32)) * steps >> np.uint64(32)
        return numbers.astype(np.float64) - about["bound"]
    bounds = {
        "kaiming_uniform": lambda: about["gain"] * math.sqrt(3.0 / fan(about, fans)),
        "xavier_uniform": lambda: about["gain"] * math.sqrt(6.0 / sum(fans)),
        "uniform": lambda: about["bound"],
    }
    if name not in bounds:
        raise ValueError(f"its distribution {name!r} is not one that this reader knows.")
    return (uniform(count, *stream) - 0.5) * (2.0 * bounds[name]())


def fan(about: dict[str, Any], fans: Sequence[int]) -> int:
    """Return how many weights lead into a unit, or out of one, as the distribution says."""
    return fans[0] if about["mode"] == "fan_in" else fans[1]


def deviation(about: dict[str, Any], fans: Sequence[int]) -> float:
    """Return the standard deviation of a distribution."""
    name = about["name"]
    if name == "uniform":
        return float(about["bound"] / math.sqrt(3.0))
    if name == "uniform_integer":
        return math.sqrt(about["bound"] * (about["bound"] + 1) / 3.0)
    if name.startswith("xavier"):
        return float(about["gain"] * math.sqrt(2.0 / sum(fans)))
    std = float(about["gain"] / math.sqrt(fan(about, fans)))
    if name != "truncated_normal":
        return std
    # (Phi(cut) - 1/2) / phi(cut) = cut + cut^3 / 3 + cut^5 / (3 * 5) + ...
    term = total = cut = about["cut"]
    place = 1
    while term > total * 2.0**-60 and total < math.inf:
        place += 2
        term *= cut * cut / place
        total += term
    return std * math.sqrt(1.0 - cut / total)


def normal_quantile(p: Array) -> Array:
    """Return the quantiles of the standard normal distribution by algorithm AS 241 (Wichura 1988)."""
    q = p - 0.5
    tail = np.where(q < 0.0, p, 1.0 - p)
    r = np.sqrt(-logarithm(tail))
    outer = np.where(r <= 5.0, ratio(r - 1.6, NEAR_TAIL), ratio(r - 5.0, FAR_TAIL))
    return np.where(np.abs(q) <= 0.425, q * ratio(0.180625 - q * q, CENTRE), np.where(q < 0.0, -outer, outer))


def logarithm(x: Array) -> Array:
    """Return natural logarithms by operations that are rounded alike everywhere; the order of all of them counts."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa, exponent = np.where(low, 2.0 * mantissa, mantissa), exponent - low
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square, series = z * z, np.zeros_like(z)
    for odd in range(21, 0, -2):
        series = series * square + 1.0 / odd
    return exponent * 0.693147180369123816490 + (2.0 * z * series + exponent * 1.90821492927058770002e-10)


def ratio(x: Array, polynomials: tuple[tuple[float, ...], ...]) -> Array:
    """Return the ratio of two polynomials by Horner's rule, their constants first."""
    above, below = (np.full_like(x, coefficients[-1]) for coefficients in polynomials)
    for one, other in zip(polynomials[0][-2::-1], polynomials[1][-2::-1], strict=True):
        above, below = above * x + one, below * x + other
    return above / below


# ---- the weights


def grown(header: dict[str, Any], name: str, draw: int = 0) -> Array:
    """Return the random weights of a parameter, float32: of the first draw, or of a later one."""
    shape, which, fans, scale = header["weights"][name]
    stream = (header["seed"], f"weights {draw}" if draw else "weights", name)
    numbers = drawn(header["distributions"][which], math.prod(shape), fans, stream) * scale
    return numbers.astype(np.float32).reshape(shape)


def digest(tensors: dict[str, Array]) -> str:
    """Return the SHA-256 of float32 tensors with their names and shapes, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name}\0{tensors[name].shape}\0".encode() + tensors[name].astype("<f4").tobytes())
    return total.hexdigest()


def order(count: int, seed: int, name: str, purpose: str) -> Array:
    """Return a permutation: the places of a stream's words, the smallest word first."""
    return np.argsort(words(count, seed, purpose, name), kind="stable")


def preset(own: dict[str, Any], seed: int, name: str, shape: Sequence[int]) -> tuple[Array, Array]:
    """Return which entries of a mask are coded, and which are always kept, both bool."""
    free, locked = np.ones(math.prod(shape), bool), np.zeros(math.prod(shape), bool)
    if name in own.get("presets", {}):
        never, always = own["presets"][name]
        places = order(free.size, seed, name, "preset")
        free[places[: never + always]] = False
        locked[places[never : never + always]] = True
    return free.reshape(shape), locked.reshape(shape)


def drawn_entries(stream: "Stream", seed: int, name: str, count: int) -> list[int]:
    """Return the entries of a mask that bits draw from what its seed grows."""
    chance, blocks, memory = stream.byte() + 256 * stream.byte(), stream.byte(), stream.byte()
    size = stream.number()
    packed = [stream.byte() for _ in range(-(-size // 8))]
    bits = [byte >> place & 1 for byte in packed for place in range(7, -1, -1)][:size]
    keys, places = words(blocks, seed, "drawn", name).tolist(), order(count, seed, name, "order of drawn").tolist()
    entries = [0] * count
    for block, key in enumerate(keys):
        here = places[count * block // blocks : count * (block + 1) // blocks]
        own = bits[size * block // blocks : size * (block + 1) // blocks]
        for number, place in enumerate(here):
            read = own[: number * len(own) // len(here) + 1]  # the newest bit is the lowest of the state
            state = sum(bit << age for age, bit in enumerate(reversed(read[-memory:])))
            word = mixed_word(mixed_word(key + number) + 0x9E3779B97F4A7C15 * state)
            entries[place] = int(word >> 48 < chance)
    return entries


def mixed_word(word: int) -> int:
    """Return the finaliser of SplitMix64 (Steele, Lea & Flood 2014) of an integer modulo 2^64."""
    word %= 2**64
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31


def treated(
    header: dict[str, Any],
    name: str,
    mask: Array,
    gain: float,
    reshuffled: bool,
    factors: Array | None,
    redraws: Array | None,
) -> Array:
    """Return the weights that the network computes with: redrawn, moved, multiplied, then masked, in float32."""
    value = grown(header, name)
    for draw in [] if redraws is None else np.unique(redraws).tolist():
        if draw:
            value = np.where(redraws == draw, grown(header, name, draw), value)
    if reshuffled:
        kept = value[mask]
        value[mask] = kept[order(kept.size, header["seed"], name, "reshuffle")]
    if factors is not None:
        value = value * factors.astype(np.float32)
    if gain != 1.0:
        value = value * np.float32(gain)
    return np.where(mask, value, np.float32(0.0))


def side_information(weights: Array, seed: int, name: str) -> list[int]:
    """Return what the seed says of each weight: its sign, six bits of its first score, its size in 16 steps."""
    sizes = np.abs(weights)
    largest = sizes.max(initial=np.float32(0.0))
    steps = np.minimum(sizes / largest * np.float32(16), np.float32(15)) if largest > 0 else sizes
    first = words(weights.size, seed, "scores", name) >> np.uint64(58)
    parts = ((weights > 0).reshape(-1), first, steps.astype(np.int64).reshape(-1))
    return [int(sign) | int(score) << 1 | int(step) << 7 for sign, score, step in zip(*parts, strict=True)]


# ---- the masks


class Stream:
    """Bytes read from the front, zeros behind the end; then a number in [0, 2^48) that is compared with shares."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0
        self.span = self.value = 0

    def byte(self) -> int:
        """Return the next byte."""
        self.place += 1
        return self.data[self.place - 1] if self.place <= len(self.data) else 0

    def number(self) -> int:
        """Return the next integer: seven bits a byte, the lowest first, the highest bit saying that another follows."""
        shift = value = 0
        while True:
            byte = self.byte()
            value += (byte % 128) << shift
            shift += 7
            if byte < 128:
                return value

    def part(self) -> bytes:
        """Return the bytes of a part whose length comes first."""
        length = self.number()
        self.place += length
        return self.data[self.place - length : self.place]

    def start(self) -> None:
        """Begin to decode entries."""
        self.span = 2**48
        self.value = sum(self.byte() << shift for shift in range(40, -1, -8))

    def entry(self, share: int) -> int:
        """Return the next entry, whose 1 takes the first `share` of the span."""
        bit = int(self.value < share)
        if bit:
            self.span = share
        else:
            self.value, self.span = self.value - share, self.span - share
        while self.span < 2**40:
            self.value, self.span = 256 * self.value + self.byte(), 256 * self.span
        return bit


def decode(
    data: bytes, shape: Sequence[int], where: list[int] | None = None, known: list[int] | None = None
) -> list[int]:
    """Return the entries of a mask, 0 or 1 in row-major order.

    Args:
        data: the code of the mask.
        shape: of the mask.
        where: which entries are coded, flat; None for all.
        known: side information of each weight, flat; None where there is none.

    """
    count = math.prod(shape)
    if count == 0:
        return []
    stream = Stream(data)
    head = stream.byte()
    if head & 16:  # blocks of equal entries: their corners are coded
        high, wide = stream.number(), stream.number()
        rows, columns = shape[0] if len(shape) > 1 else 1, math.prod(shape[1:]) if len(shape) > 1 else count
        inner = (rows // high, columns // wide)
        corners = body(stream, head - 16, inner, [1] * math.prod(inner), None)
        return [corners[i // high * inner[1] + j // wide] for i in range(rows) for j in range(columns)]
    return body(stream, head, shape, where or [1] * count, known)


def body(stream: Stream, head: int, shape: Sequence[int], where: list[int], known: list[int] | None) -> list[int]:
    """Return the entries that follow the first byte of a code."""
    if head == 0:  # counted, an urn of at most 2^24 entries after the other
        count = sum(map(bool, where))
        sizes = [min(URN, count - start) for start in range(0, count, URN)]
        bits = iter(urns(stream, [(size, stream.number()) for size in sizes]))
        return [next(bits) if free else 0 for free in where]
    if head in (1, 33):  # groups that all keep the same number, perhaps with the input channels last
        size, kept = stream.number(), stream.number()
        entries = urns(stream, [(size, kept)] * (len(where) // size))
        if head == 1:
            return entries
        channels, kernel = shape[1], math.prod(shape[2:])
        return [
            entries[(row * kernel + spot) * channels + channel]
            for row in range(shape[0])
            for channel in range(channels)
            for spot in range(kernel)
        ]
    if head not in (2, 6, 10) or (head > 2 and known is None):
        raise ValueError(f"its masks have a code that begins with {head}, which this reader does not know.")
    used = {2: 0, 6: 0b11110000001, 10: 0b11111111111}[head]
    prior = (stream.byte() + 128) % 256 - 128
    return Mixed(
        stream, shape, where, [about & used for about in known or []] if used else [1] * len(where), prior
    ).bits


URN = 2**24


def urns(stream: Stream, contents: list[tuple[int, int]]) -> list[int]:
    """Return draws without replacement: pairs are the entries and the ones of each urn."""
    stream.start()
    found = []
    for entries, ones in contents:
        for left in range(entries, 0, -1):
            bit = int(ones > 0) if ones in (0, left) else stream.entry(stream.span // left * ones)
            found.append(bit)
            ones -= bit
    return found


# 65536 / (1 + exp(-t / 2)), rounded
KNOTS = [int((65536 / (1 + (-Decimal(t) / 2).exp())).to_integral_value()) for t in range(-24, 25)]


def squash(logit: int) -> int:
    """Return the probability of a logit, in 1/65536 by 1/256 nats: a line between knots half a nat apart."""
    place, part = divmod(logit + 3072, 128)
    return min(max((KNOTS[place] * (128 - part) + KNOTS[place + 1] * part + 64) // 128, 1), 65535)


SQUASH = [squash(logit) for logit in range(-3072, 3072)]
STRETCH = [bisect_left(SQUASH, 16 * p + 8) - 3072 for p in range(4096)]


def level(logit: int) -> int:
    """Return a logit in 48 steps of half a nat."""
    return (logit + 3072) // 128


class Counter:
    """A probability of 22 bits that moves towards the entries that it sees."""

    def __init__(self, probability: int) -> None:
        self.probability, self.seen = probability << 6, 0

    @property
    def logit(self) -> int:
        """Of its probability."""
        return STRETCH[self.probability >> 10]

    def learn(self, bit: int) -> None:
        """Move towards an entry."""
        target = 2**22 - 1 if bit else 0
        self.probability += (target - self.probability) * (65536 // (self.seen + 3)) >> 16
        self.seen = min(self.seen + 1, 1023)


class Mixed:
    """The context mixing model, its counters in a dictionary by what they are for; `bits` are the entries."""

    def __init__(self, stream: Stream, shape: Sequence[int], where: list[int], known: list[int], prior: int) -> None:
        self.columns = math.prod(shape[1:]) if len(shape) > 1 else len(where)
        self.kernel = math.prod(shape[2:])
        width = stream.number()
        self.width = shape[-1] if self.kernel > 1 else width
        self.fresh = SQUASH[3072 + 24 * prior]
        self.counters: dict[Any, Counter] = {}
        self.known, self.bits = known, [0] * len(where)
        self.row_past: dict[int, list[int]] = {}
        self.column_past: dict[int, list[int]] = {}
        weights = [65536 // 7] * 12
        stream.start()
        coded = 0
        for e, free in enumerate(where):
            if not free:
                continue
            i, j = divmod(e, self.columns)
            counters = [self.counter(*key) for key in enumerate(self.surroundings(i, j))]
            logits = [counter.logit for counter in counters]
            dot = sum(weight * logit for weight, logit in zip(weights, logits, strict=True)) >> 16
            p = SQUASH[min(max(dot, -3071), 3071) + 3072]
            bit = self.bits[e] = stream.entry((stream.span >> 16) * p)
            error, rate = 65536 * bit - p, 12 + 12800 // (coded + 100)
            weights = [w + (x * error * rate >> 20) for w, x in zip(weights, logits, strict=True)]
            for counter in counters:
                counter.learn(bit)
            self.row_past.setdefault(i, []).append(bit)
            self.column_past.setdefault(j, []).append(bit)
            coded += 1

    def counter(self, kind: int, key: Any) -> Counter:
        """Return the counter of a kind of context."""
        return self.counters.setdefault((kind, key), Counter(self.fresh))

    def at(self, i: int, j: int) -> int:
        """Return the entry, 0 outside the matrix or not read yet."""
        return self.bits[i * self.columns + j] if i >= 0 and j >= 0 else 0

    def want(self, i: int, j: int) -> int:
        """Return whether an entry wants a positive sign: it keeps one, or prunes a negative one."""
        e = i * self.columns + j
        return int((self.known[e] & 1) == self.bits[e])

    def surroundings(self, i: int, j: int) -> tuple[Any, ...]:
        """Return the twelve contexts of an entry, the key of a counter of each kind."""
        about, w = self.known[i * self.columns + j], self.width
        sign, first, size = about & 1, about >> 1 & 63, about >> 7
        left = tuple(self.at(i, j - step) for step in (1, 2, 3))
        near = tuple(self.at(i, j - step) if step > 0 else 0 for step in (w, w - 1, w + 1))
        above, higher = self.at(i - 1, j), self.at(i - 2, j)
        wanted = tuple(self.wanted(i, j, step) > 0 for step in (1, w, w - 1, w + 1, 2, 2 * w))
        ring = sum(self.wanted(i, j, step) for step in (1, w, w - 1, w + 1))
        far = sum(self.wanted(i, j, step) for step in (2, 2 * w, 2 * w - 1, 2 * w + 1, w + 2, w - 2))
        row, column = (self.counter(kind, (place, sign)).logit for kind, place in ((1, i), (2, j)))
        inner: tuple[int, ...]
        if self.kernel > 1:
            spot = j % self.kernel
            kept = sum(self.at(i, j - step) for step in range(1, spot + 1))
            unit, inner = j // self.kernel, (min(kept, 63), min(spot, 63))
        else:
            around = [step for step in (-w, -1, 1, w) if 0 <= j + step < self.columns]
            logits = [self.counter(2, (j + step, sign)).logit for step in around]
            unit = level(sum(logits) // max(1, len(logits)))
            inner = (ring, level(row) // 4, level(column) // 4, sign)
        fill = (self.fill(self.row_past.get(i, [])), self.fill(self.column_past.get(j, [])))
        return (
            first,
            (i, sign),
            (j, sign),
            (left[:2], near, above, higher),
            (wanted, sign),
            (level(row), level(column), sign),
            (unit, sign),
            (ring, far, sign),
            fill,
            (min(above + higher, 2), j % 4, left),
            inner,
            (size, sign, level(row)),
        )

    def wanted(self, i: int, j: int, step: int) -> int:
        """Return the sign that is wanted so many entries back, 0 where there is none."""
        return 2 * self.want(i, j - step) - 1 if 0 < step <= j else 0

    def fill(self, past: list[int]) -> Any:
        """Return which values a line holds so far, and how many of them."""
        seen = min(min(len(past), 255).bit_length(), 7)
        return ("zeros", seen) if not any(past) else ("ones", seen) if all(past) else "mixed"


# ---- symbols of kept weights


def read_symbols(stream: Stream, kept: Array, known: list[int] | None) -> Array:
    """Return the integers of the kept weights, int64 of the mask's shape, 0 where it prunes.

    The values come first, the most frequent first; then for each but the last a mask, over those that are left.
    """
    numbers = [stream.number() for _ in range(stream.number())]
    values = [number // 2 if number % 2 == 0 else -(number // 2) - 1 for number in numbers]
    symbols, left = np.zeros(kept.shape, np.int64), kept.copy()
    for value in values[:-1]:
        chosen = np.array(decode(stream.part(), kept.shape, left.reshape(-1).tolist(), known), bool).reshape(kept.shape)
        symbols[chosen] = value
        left &= ~chosen
    symbols[left] = values[-1] if values else 0
    return symbols


# ---- tables


# fmt: off
# the coefficients of AS 241, constant term first: numerator, denominator
CENTRE = (
    (
        3.3871328727963665, 133.14166789178438, 1971.5909503065513, 13731.69376550946, 45921.95393154987,
        67265.7709270087, 33430.57558358813, 2509.0809287301227,
    ),
    (
        1.0, 42.31333070160091, 687.1870074920579, 5394.196021424751, 21213.794301586597, 39307.89580009271,
        28729.085735721943, 5226.495278852854,
    ),
)
NEAR_TAIL = (
    (
        1.4234371107496835, 4.630337846156546, 5.769497221460691, 3.6478483247632045, 1.2704582524523684,
        0.2417807251774506, 0.022723844989269184, 0.0007745450142783414,
    ),
    (
        1.0, 2.053191626637759, 1.6763848301838038, 0.6897673349851, 0.14810397642748008, 0.015198666563616457,
        0.0005475938084995345, 1.0507500716444169e-09,
    ),
)
FAR_TAIL = (
    (
        6.657904643501103, 5.463784911164114, 1.7848265399172913, 0.29656057182850487, 0.026532189526576124,
        0.0012426609473880784, 2.7115555687434876e-05, 2.0103343992922881e-07,
    ),
    (
        1.0, 0.599832206555888, 0.1369298809227358, 0.014875361290850615, 0.0007868691311456133,
        1.8463183175100548e-05, 1.421511758316446e-07, 2.0442631033899397e-15,
    ),
)
# fmt: on
# what headers have in common; a part of the format
DICTIONARY = (
    b'{"__metadata__":{"format":"pt"},"running_mean":{"dtype":"F32","shape":[64],"data_offsets":[0,256]},'
    b'"bn1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[256,264]},"bn1.running_var":'
    b'"features.0.weight":"classifier.0.weight":"layer1.0.conv1.weight":"layer1.0.bn1.weight":"downsample.0.weight":'
    b'"modules":"target":"widths":"certificate":"pixels":"construct":"relu_diamond":"linear":"epsilon":"radius":'
    b'"control":"shuffled":"reinitialised":"inverted":"trained":"random_mask":"magnitude":"iterative":"snip":"grasp":'
    b'"learned_supermask":"gem_miner":"iterand":"biprop":"signed_supermask":"multicoated":"heuristic":"structured":'
    b'"synthetic":"digits":"fashion_mnist":"cifar10":"cifar100":"resnet20":"resnet18":"wide_resnet28":"conv2":"conv4":'
    b'"conv6":"lenet5":"input_shape":[3,32,32],"in_chans":"kaiming_normal":"xavier_normal":"kaiming_uniform":'
    b'"truncated_normal":"uniform":"bound":"fan_out":"Global":"floor":"ERK":"Cubic":"Linear":"start":"end":"every":'
    b'"adam":"adamw":"step":"warm_up":5,"augment":true,"bf16":true,"channels_last":true,"best":"final","frozen":'
    b'"treatments":{"presets":{"fc1.weight":[1.0,false,true,false],"tasks":[{'
    b'{"seed":0,"distributions":[{"name":"signed_constant","gain":1.4142135623730951,"mode":"fan_in"}],"weights":{'
    b'"conv1.weight":[[64,3,3,3],0,[27,576],1.4142135623730951],"fc1.weight":[[300,784],0,[784,300],3.162277660168379],'
    b'"fc2.weight":[[100,300],0,[300,100],3.162277660168379],"fc3.weight":[[10,100],0,[100,10],3.162277660168379]},'
    b'"constants":{"conv1.bias":0.0,"fc1.bias":0.0,"fc2.bias":0.0,"fc3.bias":0.0},"bypassed":[],"digest":"'
    b'0123456789abcdef","provenance":{"algorithm":"edge_popup","options":{"density":0.1,"scope":{"name":"PerLayer"},'
    b'"scaled":true,"score":"magnitude","scores":{"name":"kaiming_uniform","gain":0.5773502691896257,"mode":"fan_in"},'
    b'"schedule":{"name":"Constant"},"own_density":{},"include":[],"dense":[],"learned":[],"bias":"none","norm":'
    b'"affine_off"},"steps":17180,"versions":{"python":"3.11.7","supermask":"0.1.0","torch":"2.11.0","torchvision":'
    b'"0.26.0","numpy":"2.4.6"},"model":{"name":"lenet_300_100","input_shape":[1,28,28],"classes":10,"width":1.0},'
    b'"data":"mnist","recipe":{"epochs":20,"batch_size":64,"optimizer":"sgd","learning_rate":0.1,"momentum":0.9,'
    b'"weight_decay":0.0001,"decay":"cosine","warm_up":0,"augment":false,"bf16":false,"channels_last":false,"best":'
    b'"auto","evaluate_every":0},"metrics":{"best_step":17180,"test_accuracy":0.9643}},'
    b'"file":{"masks":{"fc1.weight":[300,784],"fc2.weight":[100,300],"fc3.weight":[10,100]}}}'
)


# ---- the command


def lines(plain: Plain) -> Iterator[str]:
    """Yield what a file holds, for people."""
    yield f"seed {plain.seed}"
    for name, mask in plain.masks.items():
        kept, count = int(mask.sum()), mask.size
        yield f"{name!a} {shown(mask)}: {kept:,} of {count:,} kept ({kept / max(1, count):.2%})"
    for name, weights in plain.frozen.items():
        if name not in plain.masks:
            yield f"{name!a} {shown(weights)}: random, all kept"
    for name, number in plain.constants.items():
        yield f"{name!a}: constant {number}"
    for name, array in plain.stored.items():
        yield f"{name!a} {shown(array)}: stored"


def shown(array: Array) -> str:
    """Return a shape for people."""
    return "x".join(map(str, array.shape)) or "scalar"


def main(arguments: Sequence[str]) -> int:
    """Print what a file holds; return the exit status."""
    if len(arguments) != 1:
        print("usage: plain.py FILE", file=sys.stderr)
        return 2
    try:
        print("\n".join(lines(read(Path(arguments[0]).read_bytes()))))
    except (OSError, ValueError) as error:
        print(f"plain: {arguments[0]}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
