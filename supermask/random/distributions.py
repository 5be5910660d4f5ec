"""The distributions that random weights are drawn from: one frozen dataclass each, listed in `KNOWN`.

The gain of a rectified linear unit is sqrt(2) (He et al. 2015, eq. 10); "fan" counts the weights into a unit
("fan_in") or out of one ("fan_out").
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from supermask.errors import SupermaskError
from supermask.random.stream import Draws, Numbers, signs_of
from supermask.shown import quoted

RELU_GAIN = math.sqrt(2.0)
FanMode = Literal["fan_in", "fan_out"]


class Fans(NamedTuple):
    """How many weights lead into one output unit, and out of one input unit."""

    fan_in: int
    fan_out: int

    def of(self, mode: FanMode) -> int:
        """Return the count that a distribution scales by."""
        return self.fan_in if mode == "fan_in" else self.fan_out


@dataclass(frozen=True)
class Distribution(ABC):
    """Independent, identically distributed weights with mean zero."""

    name: ClassVar[str]

    @abstractmethod
    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the next `count` weights of the stream, float64 (count,).

        Parts whose counts are multiples of 64 join to what one call would return.
        """

    @abstractmethod
    def deviation(self, fans: Fans) -> float:
        """Return the standard deviation of the weights, the same bits on every machine."""

    def describe(self) -> dict[str, Any]:
        """Return the name and the parameters, as `from_description` reads them."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class _Kaiming(Distribution):
    gain: float = RELU_GAIN
    mode: FanMode = "fan_in"

    def __post_init__(self) -> None:
        _require_positive(self, "gain", self.gain)
        if self.mode not in ("fan_in", "fan_out"):
            raise SupermaskError(f"{self.name} has mode {self.mode!r}; it must be 'fan_in' or 'fan_out'.")

    def std(self, fans: Fans) -> float:
        """Return gain / sqrt(fan), the standard deviation (He et al. 2015, section 2.2)."""
        return self.gain / math.sqrt(fans.of(self.mode))

    def deviation(self, fans: Fans) -> float:
        """Return the standard deviation of the weights."""
        return self.std(fans)


@dataclass(frozen=True)
class SignedConstant(_Kaiming):
    """Plus or minus the Kaiming standard deviation with equal chance (Ramanujan et al. 2020, section 4.2)."""

    name: ClassVar[str] = "signed_constant"

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights; each costs one bit of the stream."""
        return self.std(fans) * stream.signs(count)


@dataclass(frozen=True)
class KaimingNormal(_Kaiming):
    """Normal with standard deviation gain / sqrt(fan) (He et al. 2015, section 2.2)."""

    name: ClassVar[str] = "kaiming_normal"

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights."""
        return self.std(fans) * stream.normal(count)


@dataclass(frozen=True)
class KaimingUniform(_Kaiming):
    """Uniform with standard deviation gain / sqrt(fan), so on +-gain * sqrt(3 / fan) (He et al. 2015)."""

    name: ClassVar[str] = "kaiming_uniform"

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights."""
        # a uniform number on +-b has the variance b^2 / 3
        return _centred(stream, count, self.gain * math.sqrt(3.0 / fans.of(self.mode)))


@dataclass(frozen=True)
class _Xavier(Distribution):
    gain: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, "gain", self.gain)

    def deviation(self, fans: Fans) -> float:
        """Return gain * sqrt(2 / (fan_in + fan_out)), the standard deviation of the weights."""
        return self.gain * math.sqrt(2.0 / sum(fans))


@dataclass(frozen=True)
class XavierNormal(_Xavier):
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12)."""

    name: ClassVar[str] = "xavier_normal"

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights."""
        return self.deviation(fans) * stream.normal(count)


@dataclass(frozen=True)
class XavierUniform(_Xavier):
    """Uniform on +-gain * sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16)."""

    name: ClassVar[str] = "xavier_uniform"

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights."""
        # a uniform number on +-b has the variance b^2 / 3, here 2 / (fan_in + fan_out)
        return _centred(stream, count, self.gain * math.sqrt(6.0 / sum(fans)))


@dataclass(frozen=True)
class Uniform(Distribution):
    """Uniform on [-bound, bound], whatever the layer: the distribution of the theorems (Pensia et al. 2020)."""

    bound: float = 1.0
    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        _require_positive(self, "bound", self.bound)

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights."""
        return _centred(stream, count, self.bound)

    def deviation(self, fans: Fans) -> float:
        """Return bound / sqrt(3), the standard deviation of the weights."""
        return self.bound / math.sqrt(3.0)


@dataclass(frozen=True)
class UniformInteger(Distribution):
    """Uniform on the integers from -bound to bound, whatever the layer: weights of a random network of few bits.

    A chance differs from 1 / (2 bound + 1) by less than 2^-32. Every weight is a float32 without rounding.
    """

    bound: int = 127
    name: ClassVar[str] = "uniform_integer"

    def __post_init__(self) -> None:
        _require_positive(self, "bound", self.bound)
        if not isinstance(self.bound, int) or self.bound > 2**24:  # float32 holds all integers to 2^24
            raise SupermaskError(f"{self.name} has bound={self.bound!r}; it must be an integer of at most 2^24.")

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights; each costs a word of the stream."""
        return stream.integers(count, 2 * self.bound + 1) - self.bound

    def deviation(self, fans: Fans) -> float:
        """Return sqrt(bound (bound + 1) / 3), the standard deviation of the weights."""
        return math.sqrt(self.bound * (self.bound + 1) / 3.0)


@dataclass(frozen=True)
class TruncatedNormal(_Kaiming):
    """Normal with the Kaiming standard deviation, conditioned on `cut` standard deviations about zero.

    gain / sqrt(fan) is the standard deviation before the tails are cut; with cut = 2 it becomes 0.880 of that.
    """

    cut: float = 2.0
    name: ClassVar[str] = "truncated_normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "cut", self.cut)
        if self.cut < 0.1:  # it draws until enough fall inside, and ever fewer do
            raise SupermaskError(f"truncated_normal has cut={self.cut}; it must be at least 0.1.")

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights."""
        return self.std(fans) * stream.truncated_normal(count, self.cut)

    def deviation(self, fans: Fans) -> float:
        """Return the standard deviation of what is left between the cuts, which is less than `std`."""
        return self.std(fans) * math.sqrt(1.0 - self.cut / _mills(self.cut))


@dataclass(frozen=True)
class SignOf(Distribution):
    """Plus or minus the standard deviation of another distribution, with the sign that its draw has.

    Zhou et al. 2019, mask-1 action "constant": a layer's weights, each as far from zero as the standard deviation of
    the layer's initial distribution, with the sign that it would have. The authors' code takes the deviation of the
    weights drawn, which is the same but for chance. A zero counts as plus.

    Attributes:
        of: the other distribution, whose signs a stream draws.

    """

    of: Distribution = field(default_factory=KaimingNormal)
    name: ClassVar[str] = "sign_of"

    def __post_init__(self) -> None:
        # signs of signs are the same signs, so refusing them loses nothing
        if isinstance(self.of, SignOf) or not isinstance(self.of, Distribution):
            kind = self.of.name if isinstance(self.of, Distribution) else type(self.of).__name__
            raise SupermaskError(f"sign_of has of={kind}; it must be a distribution other than sign_of.")

    def draw(self, stream: Draws[Numbers], count: int, fans: Fans) -> Numbers:
        """Return the weights; they cost what those of the other distribution do."""
        return signs_of(self.of.draw(stream, count, fans)) * self.deviation(fans)

    def deviation(self, fans: Fans) -> float:
        """Return the standard deviation of the weights, which is the other distribution's."""
        return self.of.deviation(fans)

    def describe(self) -> dict[str, Any]:
        """Return the name and the description of the other distribution."""
        return {"name": self.name, "of": self.of.describe()}


KNOWN: dict[str, type[Distribution]] = {
    kind.name: kind
    for kind in (
        SignedConstant,
        KaimingNormal,
        KaimingUniform,
        XavierNormal,
        XavierUniform,
        Uniform,
        UniformInteger,
        TruncatedNormal,
        SignOf,
    )
}


def named(distribution: "str | Distribution") -> Distribution:
    """Return the distribution of that name with its defaults; a distribution is returned as it is."""
    if isinstance(distribution, Distribution):
        return distribution
    if distribution not in KNOWN:
        raise SupermaskError(f"Unknown distribution {quoted(distribution)}; known are {', '.join(KNOWN)}.")
    return KNOWN[distribution]()


def refuse_unknown(distribution: Distribution) -> None:
    """Refuse a distribution that no ticket could name, before anything is drawn from it.

    Raises:
        SupermaskError: its class is not one of those known here.

    """
    of = getattr(distribution, "of", None)
    if isinstance(of, Distribution):
        refuse_unknown(of)
    if KNOWN.get(getattr(distribution, "name", "")) is not type(distribution):
        raise SupermaskError(
            f"{type(distribution).__name__} is a distribution of your own, which a ticket cannot name, so that nobody"
            f" could regrow its weights; give one of {', '.join(KNOWN)}, or masks over weights that the model has."
        )


def from_description(description: dict[str, Any]) -> Distribution:
    """Return the distribution that `Distribution.describe` described."""
    parameters = {key: value for key, value in description.items() if key != "name"}
    kind = type(named(str(description.get("name"))))
    inner = parameters.get("of")
    # a file could nest sign_of without end; what is left as it is, the constructor refuses
    if kind is SignOf and isinstance(inner, dict) and inner.get("name") != SignOf.name:
        parameters["of"] = from_description(inner)
    try:
        return kind(**parameters)
    except TypeError as error:
        raise SupermaskError(f"Distribution {kind.name} does not take {parameters}: {error}.") from None


def _centred(stream: Draws[Numbers], count: int, bound: float) -> Numbers:
    # the difference is exact, so the weights are symmetric about 0 to the last bit
    return (stream.uniform(count) - 0.5) * (2.0 * bound)


def _mills(x: float) -> float:
    """Return (Phi(x) - 1/2) / phi(x) of the standard normal distribution, for positive x.

    The series x + x^3/3 + x^5/(3*5) + ... has positive terms and needs no function of a maths library.
    """
    term = total = x
    place = 1
    # 2^-53 is the last bit of the sum; 2^-60 leaves room for all the terms that are left out.
    # A large x overflows to infinity, which gives the right limit: nothing is cut.
    while term > total * 2.0**-60 and total < math.inf:
        place += 2
        term *= x * x / place
        total += term
    return total


def _require_positive(distribution: Distribution, option: str, value: float) -> None:
    # a bool is an int in Python, and True would pass for 1
    if isinstance(value, bool) or not (isinstance(value, int | float) and 0.0 < value < math.inf):
        raise SupermaskError(f"{distribution.name} has {option}={value!r}; it must be a positive number.")
