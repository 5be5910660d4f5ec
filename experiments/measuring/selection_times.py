"""Our selection timed step after step and checked against a sort, and other ways on the same scores."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from experiments.measuring.published_selection import PUBLISHED, MaskOf
from experiments.measuring.score_walk import Phase, Walk, WalkPlan
from experiments.measuring.stopwatch import bandwidth, milliseconds, use_all_cores
from supermask.masking.budget import Pool
from supermask.masking.selection import Selection
from supermask.results import Result, inlined
from supermask.runs import recorded

BYTES_PER_SCORE = 5
"""Each score is read once, and its bool in the mask written once."""


@dataclass(frozen=True)
class PhaseTimes:
    """The times of the steps of one kind: quantiles in milliseconds, and how far the threshold moved, of itself."""

    steps: int
    q05_ms: float
    median_ms: float
    q95_ms: float
    max_ms: float
    moved: float


@dataclass(frozen=True)
class WalkTimes:
    """The times of our selection over a walk.

    Attributes:
        ms: of each step.
        phases: by kind of step.
        steps_checked: against a sort.
        steps_equal: those whose mask was that of the sort.
        entries_wrong: of all masks.

    """

    ms: tuple[float, ...]
    phases: Mapping[str, PhaseTimes]
    steps_checked: int
    steps_equal: int
    entries_wrong: int


@dataclass(frozen=True, kw_only=True)
class SelectionResult(Result):
    """What selection costs.

    Attributes:
        threads: of PyTorch.
        bytes_per_second: of a large copy.
        floor_ms: that reading the scores and writing the mask would take at that speed.
        walk: the times of ours.
        others_ms: of each repeat, by way.

    """

    threads: int
    bytes_per_second: float
    floor_ms: float
    walk: WalkTimes = field(metadata=inlined())
    others_ms: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class SelectionTimes:
    """The times of our selection over a walk of scores, each checked against a sort, and of others at its end.

    Attributes:
        size: number of scores, of which the larger half by magnitude is kept.
        steps: of the walk.
        plan: what happens at which step.
        repeats: of each of the others, and of ours when it remembers nothing.
        seed: of the walk.

    """

    kind: ClassVar[type[Result]] = SelectionResult

    size: int = 25_000_000
    steps: int = 1000
    plan: WalkPlan = field(default_factory=WalkPlan)
    repeats: int = 5
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        plan = {**asdict(self.plan), "fast": list(self.plan.fast), "equal": list(self.plan.equal)}
        return {**asdict(self), "plan": plan}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> SelectionResult:
        """Measure; it takes a quarter of an hour, and is not stopped half way."""
        return recorded(
            SelectionResult,
            path,
            self.config(),
            lambda _: self._measure(torch.device(device)),
            device=device,
            resume=True,
        )

    def _measure(self, device: torch.device) -> SelectionResult:
        threads = use_all_cores()
        speed = bandwidth(device)
        walk = Walk(self.size, self.plan, self.seed, device)
        walked = self._walk(walk)
        others = _others(walk.scores, self.size // 2)
        return SelectionResult(
            threads=threads,
            bytes_per_second=round(speed),
            floor_ms=round(1000 * BYTES_PER_SCORE * self.size / speed, 3),
            walk=walked,
            others_ms={way: self._repeated(work, device) for way, work in others.items()},
        )

    def _walk(self, walk: Walk) -> WalkTimes:
        """Select at every step and check it; return the times and what the checks found."""
        selection, mask, k = Selection(signed=False), torch.empty_like(walk.scores, dtype=torch.bool), self.size // 2
        _compile(mask.device)
        times, wrong, thresholds = [], [], []
        for step in tqdm(range(self.steps), desc="select", unit="step", leave=False, disable=None):
            walk.advance(step)
            mask.fill_(step % 2 == 0)  # nothing is right because it was right before
            times.append(milliseconds(lambda: _select(selection, walk.scores, k, mask), mask.device))
            scores = walk.scores.cpu().numpy()
            thresholds.append(kth_largest(scores, k))
            wrong.append(wrong_entries(scores, k, mask.cpu().numpy(), thresholds[-1]))
        return WalkTimes(
            ms=tuple(times),
            phases=self._by_phase(times, np.array(thresholds, np.float64)),
            steps_checked=len(wrong),
            steps_equal=wrong.count(0),
            entries_wrong=sum(wrong),
        )

    def _by_phase(self, times: Sequence[float], thresholds: np.ndarray) -> dict[str, PhaseTimes]:
        """Return the quantiles of the times, and how far the threshold moved, by the kind of step."""
        kinds = np.array([self.plan.phase(step) for step in range(self.steps)])
        moved = np.abs(np.diff(thresholds, prepend=thresholds[0])) / thresholds
        return {
            kind: _phase_times(np.array(times)[chosen], moved[chosen])
            for kind in get_args(Phase)
            if (chosen := kinds == kind).any()
        }

    def _repeated(self, work: Callable[[], object], device: torch.device) -> tuple[float, ...]:
        return tuple(milliseconds(work, device) for _ in range(self.repeats))


def _phase_times(times: np.ndarray, moved: np.ndarray) -> PhaseTimes:
    low, middle, high, longest = (round(float(value), 3) for value in np.quantile(times, [0.05, 0.5, 0.95, 1.0]))
    return PhaseTimes(len(times), low, middle, high, longest, float(np.median(moved)))


def _others(scores: Tensor, k: int) -> dict[str, Callable[[], object]]:
    """Return other ways to the mask, each from the scores on: ours that remembers nothing, published ones, numpy's."""
    ways: dict[str, Callable[[], object]] = {
        "cold": partial(_cold, scores, k, torch.empty_like(scores, dtype=torch.bool))
    }
    ways |= {way: partial(_published, mask_of, scores, k) for way, mask_of in PUBLISHED.items()}
    return ways if scores.is_cuda else {**ways, "partition": partial(_partition, scores, k)}


def _select(selection: Selection, scores: Tensor, k: int, mask: Tensor) -> None:
    selection.select([Pool(("scores",), k)], {"scores": scores}, {"scores": mask})


def _compile(device: torch.device) -> None:
    """Select twice among scores enough for every loop to be used, and so compiled."""
    scores, selection = torch.linspace(0.0, 1.0, 1 << 15, device=device), Selection(signed=False)
    for _ in range(2):
        _select(selection, scores, 100, torch.empty_like(scores, dtype=torch.bool))


def _cold(scores: Tensor, k: int, mask: Tensor) -> None:
    _select(Selection(signed=False), scores, k, mask)


def _published(mask_of: MaskOf, scores: Tensor, k: int) -> Tensor:
    return mask_of(scores.abs(), scores.numel() - k)


def _partition(scores: Tensor, k: int) -> Any:
    magnitudes = np.abs(scores.numpy())
    return magnitudes >= np.partition(magnitudes, -k)[-k]


_INFINITY = 0x7F800000
Scores = NDArray[np.float32]


def kth_largest(scores: Scores, k: int) -> np.float32:
    """Return the k-th largest magnitude, 1 <= k <= scores.size, by sorting as many parts as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(lambda part: np.sort(np.abs(part)), np.array_split(scores, pool._max_workers)))
    low, high = 0, _INFINITY  # of numbers that are not negative, the bits are in the order of the numbers
    while low < high:
        middle = (low + high + 1) // 2
        at_least = sum(part.size - int(np.searchsorted(part, _float(middle))) for part in parts)
        low, high = (middle, high) if at_least >= k else (low, middle - 1)
    return _float(low)


def wrong_entries(scores: Scores, k: int, mask: NDArray[np.bool_], threshold: np.float32) -> int:
    """Return in how many entries a mask differs from that of the k largest magnitudes, ties to the lowest index.

    Args:
        scores: float32 (n,).
        k: how many are kept.
        mask: bool (n,).
        threshold: what `kth_largest` says.

    """
    magnitudes = np.abs(scores)
    expected = magnitudes > threshold
    tied = np.flatnonzero(magnitudes == threshold)
    expected[tied[: k - int(np.count_nonzero(expected))]] = True
    return int(np.count_nonzero(expected != mask))


def _float(bits: int) -> np.float32:
    return np.uint32(bits).view(np.float32)
