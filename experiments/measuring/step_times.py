"""Training steps and evaluation passes of one network, timed in turn in every way."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tqdm.auto import tqdm

from experiments.measuring.step_memory import peak_bytes
from experiments.measuring.stopwatch import bandwidth, milliseconds, use_all_cores
from experiments.measuring.training_step import OTHERS, StepSetting, TrainingStep
from supermask import EdgePopup
from supermask.random.stream import philox
from supermask.results import Result
from supermask.runs import recorded
from theory import laws

WARM_UP = 2
BYTES_PER_WEIGHT = 20
"""What a masked step moves over a dense one, float32, if each tensor is read or written once.

Selection reads the scores (4); the backward pass makes the gradient of the scores from that of the weight, the frozen
weight and the scores (16). The mask's byte, and the few masked weights that change, are left out.
"""


@dataclass(frozen=True)
class PartTimes:
    """The times of training steps or of evaluation passes, by way.

    Attributes:
        ms: milliseconds of each round that a way took part in.
        median_ms: their median.
        ratio: the median of the ratios to the dense times of the same rounds.

    """

    ms: Mapping[str, tuple[float, ...]]
    median_ms: Mapping[str, float]
    ratio: Mapping[str, laws.Estimate]


@dataclass(frozen=True, kw_only=True)
class CostResult(Result):
    """What a step costs.

    Attributes:
        threads: of PyTorch.
        weights: that a search ranks.
        bytes_per_second: of a large copy.
        train: times of training steps.
        evaluate: times of evaluation passes.
        peak_bytes: of memory in a step, by way; None where it is not known.

    """

    threads: int
    weights: int
    bytes_per_second: float
    train: PartTimes
    evaluate: PartTimes
    peak_bytes: Mapping[str, int | None]


@dataclass(frozen=True)
class StepCost:
    """The times of every way on one network, step by step in turn.

    Attributes:
        setting: the network and its batch.
        rounds: training steps, and as many evaluation passes, of the dense network and of our search.
        every: the ways of others take part in every so many rounds.
        burst: steps that a way takes in its turn, of which the median counts; 0 is one step alone. Of small networks
            the first step after another way's would mostly fetch its own tensors, so that one is not timed.

    """

    kind: ClassVar[type[Result]] = CostResult

    setting: StepSetting
    rounds: int
    every: int = 1
    burst: int = 0

    @property
    def name(self) -> str:
        """How many rounds."""
        return f"{self.rounds}rounds"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "setting": {**asdict(self.setting), "input_shape": list(self.setting.input_shape)}}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> CostResult:
        """Measure; it takes minutes, and is not stopped half way."""
        return recorded(
            CostResult, path, self.config(), lambda _: self._measure(torch.device(device)), device=device, resume=True
        )

    def _measure(self, device: torch.device) -> CostResult:
        threads = use_all_cores()
        speed = bandwidth(device)
        times = self._times(device)
        return CostResult(
            threads=threads,
            weights=prunable(self.setting),
            bytes_per_second=round(speed),
            train=self._summary(times["train"]),
            evaluate=self._summary(times["evaluate"]),
            peak_bytes={way: peak_bytes(self.setting, way, device) for way in self.setting.ways},
        )

    def _times(self, device: torch.device) -> dict[str, dict[str, list[float]]]:
        """Return the milliseconds of each part, training steps and evaluation passes, by way."""
        steps = {way: TrainingStep(self.setting, way, device) for way in self.setting.ways}
        train: dict[str, Callable[[], object]] = {way: step.train for way, step in steps.items()}
        evaluate: dict[str, Callable[[], object]] = {way: step.evaluate for way, step in steps.items()}
        trained = self._in_turn(train, device)
        for step in steps.values():
            step.model.eval()
        return {"train": trained, "evaluate": self._in_turn(evaluate, device)}

    def _in_turn(self, work: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, list[float]]:
        """Time every way in each round that it takes part in, in an order of its own."""
        for one in [*work.values()] * WARM_UP:
            one()
        times: dict[str, list[float]] = {way: [] for way in work}
        shuffle = np.random.Generator(philox(0, "step_cost")).permutation
        for place in tqdm(range(self.rounds), desc=self.setting.model, unit="round", leave=False, disable=None):
            for way in shuffle([way for way in work if way not in OTHERS or place % self.every == 0]):
                times[way].append(self._turn(work[way], device))
        return times

    def _turn(self, work: Callable[[], object], device: torch.device) -> float:
        if not self.burst:
            return milliseconds(work, device)
        work()
        return round(float(np.median([milliseconds(work, device) for _ in range(self.burst)])), 3)

    def _summary(self, times: Mapping[str, list[float]]) -> PartTimes:
        """Return the times, the median of each way, and that of its ratios to the dense times of the same rounds."""
        dense = np.array(times["dense"])
        ratios = {
            way: np.array(found) / (dense[:: self.every] if way in OTHERS else dense)
            for way, found in times.items()
            if way != "dense"
        }
        return PartTimes(
            ms={way: tuple(found) for way, found in times.items()},
            median_ms={way: round(float(np.median(found)), 3) for way, found in times.items()},
            ratio={way: laws.median(found) for way, found in ratios.items()},
        )


def prunable(setting: StepSetting) -> int:
    """Return how many weights a search ranks."""
    return sum(score.numel() for score in EdgePopup(setting.build(), density=0.5).scores().values())
