"""Random numbers that are the same on every machine: a counter-based generator and exact arithmetic on top of it.

The words come from Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), keyed by a hash
of a seed and a name, so that a tensor depends on nothing but the two. Every step from the words to a number uses only
operations that IEEE 754 rounds correctly (+ - * / and the square root): the sine, logarithm and exponential of a
maths library differ in the last bit between platforms, and so would the networks.
"""

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = TypeVar("Numbers", Floats, torch.Tensor)
Made = TypeVar("Made", bound=Floats | torch.Tensor, covariant=True)

_CHUNK = 1 << 16  # numbers made at a time, so that the temporaries stay in the cache


def philox(seed: int, *words: str | int) -> np.random.Philox:
    """Return the generator whose key is a hash of a seed and some words: neighbouring seeds have unrelated streams."""
    # a separator that no name has, so that ("a", "bc") and ("ab", "c") are two streams
    label = "\0".join(str(word) for word in (seed, *words)).encode()
    # 16 bytes are the 128 bits of Philox's key; person keeps it apart from other uses of the hash
    digest = hashlib.blake2b(label, digest_size=16, person=b"supermask").digest()
    return np.random.Philox(key=np.frombuffer(digest, dtype="<u8").astype(np.uint64))


class Draws(Protocol[Made]):
    """What distributions draw from: `Stream`, or `on_device.DeviceStream`, whose numbers are the same."""

    def signs(self, count: int) -> Made:
        """Return `count` fair signs."""

    def integers(self, count: int, below: int) -> Made:
        """Return whole numbers from 0 to below - 1."""

    def uniform(self, count: int) -> Made:
        """Return numbers that are uniform on (0, 1)."""

    def normal(self, count: int) -> Made:
        """Return standard normal numbers."""

    def truncated_normal(self, count: int, cut: float) -> Made:
        """Return standard normal numbers conditioned on [-cut, cut]."""


@dataclass(eq=False)
class Stream:
    """An endless sequence of 64-bit words that (seed, name, purpose) fixes; each call reads on where the last ended.

    Attributes:
        seed: any integer from 0 to 2**63 - 1.
        name: what the numbers are for, e.g. the name of a parameter.
        purpose: separates streams of one seed and name, e.g. "weights" from "scores".

    """

    seed: int
    name: str
    purpose: str
    _inside: dict[float, Floats] = field(default_factory=dict, init=False)  # by cut: truncated normals not read yet

    @cached_property
    def _philox(self) -> np.random.Philox:
        return philox(self.seed, self.purpose, self.name)

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next `count` words, uint64 (count,)."""
        return np.asarray(self._philox.random_raw(count), dtype=np.uint64)

    def bits(self, count: int) -> NDArray[np.uint8]:
        """Return `count` fair bits, uint8 (count,): those of the next words, lowest first; spare bits are dropped."""
        # little-endian, because the bits are unpacked in the order of the bytes in memory
        words = self.words(-(-count // 64)).astype("<u8")
        return np.unpackbits(words.view(np.uint8), count=count, bitorder="little")

    def signs(self, count: int) -> Floats:
        """Return `count` fair signs, float64 (count,): 1.0 for a bit that is set, else -1.0."""
        # float64 before the subtraction: in uint8 0 - 1 would wrap around to 255
        return 2.0 * self.bits(count).astype(np.float64) - 1.0

    def integers(self, count: int, below: int) -> Floats:
        """Return whole numbers from 0 to below - 1, below at most 2^30, float64 (count,); each costs a word.

        A chance differs from 1 / below by less than 2^-32.
        """
        # integers alone, 32 bits times 30: nothing is rounded, and the ends are never passed
        return ((self.words(count) >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(np.float64)

    def uniform(self, count: int) -> Floats:
        """Return float64 (count,), uniform on the open interval (0, 1), symmetric about 1/2."""
        # 52 bits and a half need 53 bits: no number is rounded, and neither end is ever reached
        return ((self.words(count) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def normal(self, count: int) -> Floats:
        """Return standard normal float64 (count,), the quantile function applied to `uniform`."""
        out = np.empty(count)
        for start in range(0, count, _CHUNK):
            part = out[start : start + _CHUNK]
            part[:] = normal_quantile(self.uniform(part.size))
        return out

    def truncated_normal(self, count: int, cut: float) -> Floats:
        """Return `count` standard normals conditioned on [-cut, cut]: the next of the stream that fall inside."""
        parts = [self._inside.pop(cut, np.empty(0))]
        missing = count - parts[0].size
        while missing > 0:
            # at a cut of 2, 95 % fall inside, so one draw is mostly enough; 64 keeps the last draws from being tiny
            drawn = self.normal(min(_CHUNK, 2 * missing + 64))
            parts.append(drawn[np.abs(drawn) <= cut])
            missing -= parts[-1].size
        inside = np.concatenate(parts)
        self._inside[cut] = inside[count:]
        return inside[:count]


def exact_log(x: Numbers) -> Numbers:
    """Return the natural logarithm of positive normal float64, within 3 ulp, the same bits on every machine.

    x = m 2^e with m in [sqrt(1/2), sqrt(2)), and log m = 2 artanh(z) = 2 (z + z^3/3 + z^5/5 + ...) with
    z = (m - 1)/(m + 1), |z| <= 0.172: the terms past z^21 are below 2^-57 of the sum.
    """
    library = _library(x)
    mantissa, exponent = library.frexp(x)
    # sqrt(1/2); frexp gives mantissas in [1/2, 1)
    low = mantissa < 0.7071067811865476
    mantissa = library.where(low, 2.0 * mantissa, mantissa)
    # torch has no float64 of an int32 times a number of Python
    exponent = library.where(low, exponent - 1, exponent) * library.ones_like(mantissa)
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square = z * z
    series = library.zeros_like(z)
    # Horner's rule, which adds the small terms first
    for odd in range(21, 0, -2):
        series = series * square + 1.0 / odd
    # log 2 in two parts, the first with trailing zeros, so that exponent * high is exact
    high, rest = 0.693147180369123816490, 1.90821492927058770002e-10
    # the small parts first, so that only the last addition rounds at the size of the result
    return exponent * high + (2.0 * z * series + exponent * rest)


def normal_quantile(p: Numbers) -> Numbers:
    """Return the standard normal quantile of float64 p in (0, 1).

    The rational approximations of Wichura 1988 (algorithm AS 241, PPND16), relative accuracy about 1e-16. A maths
    library's quantile would be as good but not the same to the last bit everywhere.
    """
    library = _library(p)
    q = p - 0.5
    out = library.empty_like(p)
    # 0.425, its square 0.180625, 1.6 and 5 are those of AS 241: the borders and centres of its three parts
    centre = abs(q) <= 0.425
    inner = q[centre]
    out[centre] = inner * _ratio(0.180625 - inner * inner, _CENTRE)
    outer = q[~centre]
    # the smaller of p and 1 - p: the logarithm of a number near 1 would lose its digits
    tail = library.where(outer < 0.0, p[~centre], 1.0 - p[~centre])
    r = _exact_root(-exact_log(tail))
    near = r <= 5.0
    size = library.where(near, _ratio(r - 1.6, _NEAR_TAIL), _ratio(r - 5.0, _FAR_TAIL))
    out[~centre] = library.where(outer < 0.0, -size, size)
    return out


def signs_of(numbers: Numbers) -> Numbers:
    """Return -1.0 for negative float64 and 1.0 for others; a library's sign makes 0 of a zero."""
    library = _library(numbers)
    ones = library.ones_like(numbers)
    return library.where(numbers < 0.0, -ones, ones)


def _exact_root(x: Numbers) -> Numbers:
    """Return the square root of positive float64, rounded to the nearest.

    numpy's is that of the processor. torch's on a CPU is that of a vector library and may be one unit in the last place
    off, so that here it is corrected: the remainder x - root^2 is computed exactly (Dekker 1971, splitting by
    Veltkamp's 2^27 + 1), and is less than half a unit of the root times twice the root where the root is the nearest.
    """
    if not isinstance(x, torch.Tensor):
        return np.sqrt(x)
    root = torch.sqrt(x)
    split = root * (2.0**27 + 1.0)
    high = split - (split - root)
    low = root - high
    square = root * root
    rest = (x - square) - (((high * high - square) + 2.0 * high * low) + low * low)
    up, down = (torch.nextafter(root, torch.full_like(root, side)) - root for side in (math.inf, 0.0))
    return torch.where(rest > root * up, root + up, torch.where(rest <= root * down, root + down, root))


def _library(numbers: Numbers) -> Any:
    """Return the library of the numbers: what is used of the two has the same names."""
    return torch if isinstance(numbers, torch.Tensor) else np


Polynomials = tuple[tuple[float, ...], tuple[float, ...]]


def _ratio(x: Numbers, polynomials: Polynomials) -> Numbers:
    above, below = (_horner(x, coefficients) for coefficients in polynomials)
    return above / below


def _horner(x: Numbers, coefficients: tuple[float, ...]) -> Numbers:
    value = _library(x).full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


# The coefficients of AS 241, constant term first: numerator, denominator
_CENTRE: Polynomials = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_NEAR_TAIL: Polynomials = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL: Polynomials = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)
