"""One pruned layer computed in several ways: dense, and by its weights in rows (CSR) through three libraries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, unfold

from supermask.deploy import SparseLinear, SparsePointwise, csr
from supermask.random.stream import philox

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
