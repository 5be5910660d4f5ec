"""One layer at several densities, timed in turn in every way on one thread."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, unfold

from experiments.measuring.stopwatch import one_thread
from supermask.deploy import SparseLinear, SparsePointwise, csr
from supermask.random.stream import philox
from supermask.results import Result
from supermask.runs import recorded
from theory import laws

Work = Callable[[], Tensor]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """A layer and its input.

    Attributes:
        outputs: units or channels.
        inputs: units or channels.
        batch: examples of one call.
        kernel: of a convolution with stride 1 and as much padding as keeps the size; 0 is a linear layer.
        side: of its square images.

    """

    outputs: int
    inputs: int
    batch: int
    kernel: int = 0
    side: int = 1

    def weight(self, density: float) -> Tensor:
        """Return normal weights of which exactly a fraction `density` is not 0, float32."""
        kernel = (self.kernel,) * 2 if self.kernel else ()
        random = np.random.Generator(philox(0, "sparse_speed", self.outputs, self.inputs))
        weight = random.standard_normal((self.outputs, self.inputs, *kernel), np.float32)
        gone = random.permutation(weight.size)[round(density * weight.size) :]
        weight.reshape(-1)[gone] = 0.0
        return torch.from_numpy(weight)

    def input(self) -> Tensor:
        """Return one batch, float32."""
        image = (self.side, self.side) if self.kernel else ()
        random = np.random.Generator(philox(0, "sparse_speed input"))
        return torch.from_numpy(random.standard_normal((self.batch, self.inputs, *image), np.float32))


def ways(shape: Shape, density: float) -> dict[str, Work]:
    """Return what computes a layer, without its bias, in each way that there is for it; all give the same."""
    weight, x = shape.weight(density), shape.input()
    if shape.kernel == 0:
        by_torch = SparseLinear(_filled(nn.Linear(shape.inputs, shape.outputs, bias=False), weight))
        return {"dense": lambda: linear(x, weight), "torch": lambda: by_torch(x), **_other_libraries(weight, x)}
    padding = shape.kernel // 2
    dense: Work = lambda: conv2d(x, weight, padding=padding)  # noqa: E731
    if shape.kernel == 1:
        pointwise = SparsePointwise(_filled(nn.Conv2d(shape.inputs, shape.outputs, 1, bias=False), weight))
        return {"dense": dense, "torch": lambda: pointwise(x)}
    rows = csr(weight.flatten(1))
    return {"dense": dense, "torch": lambda: _unfolded(rows, x, shape.kernel)}


@torch.no_grad()
def _filled(layer: nn.Module, weight: Tensor) -> Any:
    layer.get_parameter("weight").copy_(weight)
    return layer


def _unfolded(rows: Tensor, x: Tensor, kernel: int) -> Tensor:
    columns = unfold(x, kernel, padding=kernel // 2).transpose(0, 1).flatten(1)
    return (rows @ columns).view(len(rows), len(x), *x.shape[2:]).transpose(0, 1)


def _other_libraries(weight: Tensor, x: Tensor) -> Mapping[str, Work]:
    rows, images = csr_matrix(weight.numpy()), x.numpy()
    return {
        "scipy": lambda: torch.from_numpy((rows @ images.T).T),
        "compiled": lambda: torch.from_numpy(_product(rows.indptr, rows.indices, rows.data, images.T.copy()).T),
    }


@numba.njit
def _product(starts: Any, columns: Any, values: Floats, images: Floats) -> Floats:
    """Return the product of a matrix in rows with images (inputs, batch), float32 (outputs, batch)."""
    found = np.zeros((len(starts) - 1, images.shape[1]), np.float32)
    for row in range(len(found)):
        for place in range(starts[row], starts[row + 1]):
            value, image = values[place], images[columns[place]]
            for example in range(len(image)):
                found[row, example] += value * image[example]
    return found


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
        with one_thread():
            times = self._times()
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
