"""One layer at several densities, timed in turn in every way on one thread."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from experiments.measuring.sparse_layers import Shape, Work, ways
from supermask.random.stream import philox
from supermask.results import Result
from supermask.runs import recorded
from theory import laws

DENSITIES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)


@dataclass(frozen=True)
class Times:
    """The times at one density: median milliseconds by way, and ratios to the dense times of the same rounds."""

    median_ms: Mapping[str, float]
    ratio: Mapping[str, laws.Estimate]


@dataclass(frozen=True, kw_only=True)
class SpeedResult(Result):
    """The times of a layer by density."""

    density: Mapping[float, Times]


@dataclass(frozen=True)
class Speed:
    """The times of a layer.

    Attributes:
        shape: of the layer and its input.
        rounds: in each, every way takes a turn at every density.
        burst: calls of a turn, of which the median counts, after one that is not timed.
        densities: from the largest.

    """

    kind: ClassVar[type[Result]] = SpeedResult

    shape: Shape
    rounds: int
    burst: int = 5
    densities: tuple[float, ...] = DENSITIES

    @property
    def name(self) -> str:
        """How many rounds."""
        return f"{self.rounds}rounds"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "densities": list(self.densities)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> SpeedResult:
        """Measure; it is not stopped half way."""
        return recorded(SpeedResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> SpeedResult:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            times = self._times()
        finally:
            torch.set_num_threads(threads)
        return SpeedResult(density={density: _summary(found) for density, found in times.items()})

    @torch.no_grad()
    def _times(self) -> dict[float, dict[str, list[float]]]:
        work = {density: ways(self.shape, density) for density in self.densities}
        times: dict[float, dict[str, list[float]]] = {
            density: {way: [] for way in found} for density, found in work.items()
        }
        shuffle = np.random.Generator(philox(0, "sparse_speed order")).permutation
        for _ in range(self.rounds):
            for density, found in work.items():
                for way in shuffle(list(found)):
                    times[density][way].append(self._turn(found[way]))
        return times

    def _turn(self, work: Work) -> float:
        work()
        return float(np.median([thread_milliseconds(work) for _ in range(self.burst)]))


def thread_milliseconds(work: Work) -> float:
    """Return the milliseconds that this thread computed: what else the machine does in between does not count."""
    began = time.thread_time()
    work()
    return 1000 * (time.thread_time() - began)


def _summary(times: Mapping[str, list[float]]) -> Times:
    """Return the median of each way, and that of its ratios to the dense times of the same rounds."""
    dense = np.array(times["dense"])
    ratios = {way: np.array(found) / dense for way, found in times.items() if way != "dense"}
    return Times(
        median_ms={way: round(float(np.median(found)), 4) for way, found in times.items()},
        ratio={way: laws.median(ratio) for way, ratio in ratios.items()},
    )


def crossover(result: SpeedResult, way: str) -> float:
    """Return the density below which a way is faster than the dense layer, 0 where it is not.

    It lies between two measured densities, where a straight line through the logarithms of their ratios meets 1; from
    there on down every measured ratio is below 1. Where it is faster at all of them, it is the largest.
    """
    ratios = sorted((density, found.ratio[way].value) for density, found in result.density.items())
    if ratios[0][1] >= 1:
        return 0.0
    for (low, fast), (high, slow) in pairwise(ratios):
        if slow >= 1:
            share = np.log(1 / fast) / np.log(slow / fast)
            return float(np.exp(np.log(low) + share * np.log(high / low)))
    return ratios[-1][0]
