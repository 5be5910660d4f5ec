"""A decoder of coded masks in plain Python integers, written from the description of the format: slow and obvious."""

import math
from bisect import bisect_left
from decimal import Decimal


class Stream:
    """Bytes read from the front, zeros behind the end; then a number in [0, 2^48) that is compared with shares."""

    def __init__(self, data):
        self.data, self.place = data, 0

    def byte(self):
        self.place += 1
        return self.data[self.place - 1] if self.place <= len(self.data) else 0

    def number(self):
        shift = value = 0
        while True:
            byte = self.byte()
            value += (byte % 128) << shift
            shift += 7
            if byte < 128:
                return value

    def start(self):
        self.span = 2**48
        self.value = sum(self.byte() << shift for shift in range(40, -1, -8))

    def entry(self, share):
        bit = int(self.value < share)
        if bit:
            self.span = share
        else:
            self.value, self.span = self.value - share, self.span - share
        while self.span < 2**40:
            self.value, self.span = 256 * self.value + self.byte(), 256 * self.span
        return bit


def decode(data, shape, where=None, known=None):
    """Return the entries, a list of 0 and 1 in row-major order; `where` and `known` are flat lists or None."""
    count = math.prod(shape)
    if count == 0:
        return []
    stream = Stream(data)
    head = stream.byte()
    if head & 16:
        high, wide = stream.number(), stream.number()
        rows, columns = shape[0] if len(shape) > 1 else 1, math.prod(shape[1:]) if len(shape) > 1 else count
        inner = (rows // high, columns // wide)
        corners = body(stream, head - 16, inner, [1] * math.prod(inner), None)
        return [corners[i // high * inner[1] + j // wide] for i in range(rows) for j in range(columns)]
    return body(stream, head, shape, where or [1] * count, known)


def body(stream, head, shape, where, known):
    if head == 0:
        drawn = iter(urn(stream, [(sum(where), stream.number())]))
        return [next(drawn) if free else 0 for free in where]
    if head in (1, 33):
        size, kept = stream.number(), stream.number()
        bits = urn(stream, [(size, kept)] * (len(where) // size))
        if head == 1:
            return bits
        channels, kernel = shape[1], math.prod(shape[2:])
        return [
            bits[(row * kernel + spot) * channels + channel]
            for row in range(shape[0])
            for channel in range(channels)
            for spot in range(kernel)
        ]
    assert head & 3 == 2
    used = {0: 0, 1: 0b11110000001, 2: 0b11111111111}[head >> 2]
    prior = (stream.byte() + 128) % 256 - 128
    return Mixed(stream, shape, where, [about & used for about in known] if used else [1] * len(where), prior).bits


def urn(stream, urns):
    """Return draws without replacement: pairs are the entries and the ones of each urn."""
    stream.start()
    drawn = []
    for left, ones in urns:
        for left_now in range(left, 0, -1):
            bit = int(ones > 0) if ones in (0, left_now) else stream.entry(stream.span // left_now * ones)
            drawn.append(bit)
            ones -= bit
    return drawn


KNOTS = [int((65536 / (1 + (-Decimal(t) / 2).exp())).to_integral_value()) for t in range(-24, 25)]


def squash(logit):
    place, part = divmod(logit + 3072, 128)
    return min(max((KNOTS[place] * (128 - part) + KNOTS[place + 1] * part + 64) // 128, 1), 65535)


SQUASH = [squash(logit) for logit in range(-3072, 3072)]
STRETCH = [bisect_left(SQUASH, 16 * p + 8) - 3072 for p in range(4096)]


def level(logit):
    return (logit + 3072) // 128


class Counter:
    def __init__(self, probability):
        self.probability, self.seen = probability << 6, 0

    @property
    def logit(self):
        return STRETCH[self.probability >> 10]

    def learn(self, bit):
        target = 2**22 - 1 if bit else 0
        self.probability += (target - self.probability) * (65536 // (self.seen + 3)) >> 16
        self.seen = min(self.seen + 1, 1023)


class Mixed:
    """The context mixing model, its counters in a dictionary by what they are for."""

    def __init__(self, stream, shape, where, known, prior):
        self.columns = math.prod(shape[1:]) if len(shape) > 1 else len(where)
        self.kernel = math.prod(shape[2:])
        width = stream.number()
        self.width = shape[-1] if self.kernel > 1 else width
        self.fresh = SQUASH[3072 + 24 * prior]
        self.counters = {}
        self.known, self.bits = known, [0] * len(where)
        self.row_past, self.column_past = {}, {}
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

    def counter(self, kind, key):
        return self.counters.setdefault((kind, key), Counter(self.fresh))

    def at(self, i, j):
        """Return the entry, 0 outside the matrix or not read yet."""
        return self.bits[i * self.columns + j] if i >= 0 and j >= 0 else 0

    def want(self, i, j):
        e = i * self.columns + j
        return int((self.known[e] & 1) == self.bits[e])

    def surroundings(self, i, j):
        about, w = self.known[i * self.columns + j], self.width
        sign, first, size = about & 1, about >> 1 & 63, about >> 7
        left = tuple(self.at(i, j - step) for step in (1, 2, 3))
        near = tuple(self.at(i, j - step) if step > 0 else 0 for step in (w, w - 1, w + 1))
        above, higher = self.at(i - 1, j), self.at(i - 2, j)
        wanted = tuple(self.wanted(i, j, step) > 0 for step in (1, w, w - 1, w + 1, 2, 2 * w))
        ring = sum(self.wanted(i, j, step) for step in (1, w, w - 1, w + 1))
        far = sum(self.wanted(i, j, step) for step in (2, 2 * w, 2 * w - 1, 2 * w + 1, w + 2, w - 2))
        row, column = (self.counter(kind, (place, sign)).logit for kind, place in ((1, i), (2, j)))
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

    def wanted(self, i, j, step):
        return 2 * self.want(i, j - step) - 1 if 0 < step <= j else 0

    def fill(self, past):
        seen = min(min(len(past), 255).bit_length(), 7)
        return ("zeros", seen) if not any(past) else ("ones", seen) if all(past) else "mixed"
