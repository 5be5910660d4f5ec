"""The ladder of iterative pruning: how many weights each round leaves, exact to one weight."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from supermask.errors import SupermaskError
from supermask.masking.budget import Pool, Shapes, round_to_total


@dataclass(frozen=True)
class Ladder:
    """Each round removes a fraction of the weights that are left: of every layer, or over the whole network.

    After k rounds n (1 - rate)^k of a layer's n weights are left, before rounding (Frankle & Carbin 2019, section 2).
    Counts follow from that formula, not from round to round, so that rounding does not add up: the total is the
    nearest integer to the sum over the layers, and each layer is within one weight of its own value.

    Attributes:
        rate: fraction that a round removes.
        conv_rate: the same of convolutions; None is `rate`.
        output_rate: the same of the last layer, which the network's output comes from; None is its layer's own.
        whole: one ranking over the whole network, by `rate` alone; else layer by layer.

    """

    rate: float = 0.2
    conv_rate: float | None = None
    output_rate: float | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        for name in ("rate", "conv_rate", "output_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0.0 < rate < 1.0:
                raise SupermaskError(f"{name}={rate} is out of range; a round removes a fraction between 0 and 1.")
        if self.whole and not (self.conv_rate is None and self.output_rate is None):
            raise SupermaskError(
                "One ranking over the whole network has one rate; leave conv_rate and output_rate out."
            )

    def rates(self, shapes: Shapes) -> dict[str, float]:
        """Return the rate of each layer; the last one given is the output layer."""
        conv = self.rate if self.conv_rate is None else self.conv_rate
        rates = {name: conv if len(shape) > 2 else self.rate for name, shape in shapes.items()}
        if self.output_rate is not None and rates:
            rates[list(rates)[-1]] = self.output_rate
        return rates

    def kept(self, shapes: Shapes, rounds: float) -> dict[str, int]:
        """Return the number of weights of each layer after so many rounds, of which the last may be a part of one."""
        sizes = _sizes(shapes)
        shares = {name: sizes[name] * (1.0 - rate) ** rounds for name, rate in self.rates(shapes).items()}
        return round_to_total(shares, sizes, round(sum(shares.values())))

    def density(self, shapes: Shapes, rounds: float) -> float:
        """Return the fraction that is left after so many rounds, before rounding to whole weights."""
        sizes = _sizes(shapes)
        left = sum(sizes[name] * (1.0 - rate) ** rounds for name, rate in self.rates(shapes).items())
        return left / sum(sizes.values())

    def pools(self, shapes: Shapes, rounds: float) -> list[Pool]:
        """Return the pools after so many rounds; a layer may be emptied."""
        kept = self.kept(shapes, rounds)
        if self.whole:
            return [Pool(tuple(shapes), sum(kept.values()), 0)]
        return [Pool((name,), count) for name, count in kept.items()]

    def rounds_to(self, shapes: Shapes, density: float) -> float:
        """Return after how many rounds this fraction of the weights is left.

        Raises:
            SupermaskError: the density leaves no weight, or is above 1.

        """
        sizes = _sizes(shapes)
        total = sum(sizes.values())
        if not 0.5 < density * total <= total:
            raise SupermaskError(f"Rounds of pruning cannot reach density {density}: give one from 1/{total:,} to 1.")
        rates = self.rates(shapes)
        low, high = 0.0, math.log(0.25 / total) / math.log(1.0 - min(rates.values()))
        while (middle := 0.5 * (low + high)) not in (low, high):
            left = sum(size * (1.0 - rates[name]) ** middle for name, size in sizes.items())
            low, high = (middle, high) if left > density * total else (low, middle)
        nearest = round(high)  # a whole number of rounds is meant as one
        return float(nearest) if abs(high - nearest) < 1e-9 else high


def _sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}
