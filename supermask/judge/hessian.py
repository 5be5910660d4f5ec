"""The spectrum of the Hessian of the loss, over the weights that a mask keeps.

Early in training the Hessian has large eigenvalues of both signs; later a few large positive ones, a bulk near zero and
negative ones that are very small (Frankle, Schwab & Morcos 2020, and the work that they name). For a pruned network it
is restricted to the survivors, H_mm: over all weights, eigenvectors would lie on weights that are not there.

A product with the Hessian costs two backward passes (Pearlmutter 1994), and nothing of its size is ever stored.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from supermask.errors import SupermaskError
from supermask.random.keyed import keyed_generator

Vector = NDArray[np.float64]
Batches = Iterable[tuple[Tensor, Tensor]]

_TOLERANCE = 1e-5  # relative, of eigenvalues: products of float32 networks are not more exact
_RESTARTS = 300
_FEW = 20  # eigsh keeps at least so many vectors, and up to there the whole matrix is not more work


@dataclass(frozen=True)
class Spectrum:
    """The two ends of a spectrum.

    Attributes:
        lowest: eigenvalues from the lowest up.
        highest: eigenvalues from the highest down.
        weights: the size of the matrix.

    """

    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    weights: int


@dataclass(frozen=True)
class Density:
    """A spectrum as points with weights: the quadrature of its density.

    Attributes:
        nodes: eigenvalues, float64 (probes, steps); a node may stand for many eigenvalues near it.
        weights: the share of the eigenvalues that each stands for, of the same shape, with the sum 1.

    """

    nodes: Vector
    weights: Vector

    def at(self, values: Vector, width: float) -> Vector:
        """Return the density at some values, smoothed by a Gaussian of a width: float64, with the integral 1."""
        distances = (values[:, None] - self.nodes.reshape(1, -1)) / width
        # 1 / sqrt(2 pi), so that the integral of each bump is its weight
        return np.exp(-0.5 * distances**2) @ self.weights.reshape(-1) / (width * np.sqrt(2 * np.pi))


def extreme_eigenvalues(
    model: nn.Module,
    batches: Batches,
    *,
    masks: Mapping[str, Tensor] | None = None,
    count: int = 10,
    seed: int = 0,
) -> Spectrum:
    """Return the lowest and the highest eigenvalues of the Hessian of the mean cross-entropy, in evaluation mode.

    They are found by implicitly restarted Lanczos iterations (scipy's `eigsh`), to a relative 1e-5.

    Args:
        model: a plain module whose pruned weights are zero. Its mode, weights and gradients stay as they are.
        batches: inputs, and labels int64 (batch,), on the model's device; all of them are held in memory.
        masks: bool, by parameter name: of these parameters only what is kept takes part. Parameters without a mask
            take part as a whole, and those that need no gradient do not.
        count: of the eigenvalues at each end; fewer if the matrix is smaller.
        seed: of the first vector.

    Raises:
        SupermaskError: there are no examples or no weights, a mask does not fit, count is below 1, or the iterations do
            not converge.

    """
    if count < 1:
        raise SupermaskError(f"count={count} is out of range; give the number of eigenvalues at each end, from 1.")
    with _product(model, batches, masks) as product:
        count = min(count, product.size)
        if product.size <= max(_FEW, 2 * count + 1):
            values = _all_eigenvalues(product)
            return Spectrum(tuple(values[:count]), tuple(values[::-1][:count]), product.size)
        lowest, highest = (_one_end(product, count, end, seed) for end in ("SA", "LA"))
        return Spectrum(tuple(lowest), tuple(highest[::-1]), product.size)


def spectral_density(
    model: nn.Module,
    batches: Batches,
    *,
    masks: Mapping[str, Tensor] | None = None,
    steps: int = 30,
    probes: int = 5,
    seed: int = 0,
) -> Density:
    """Return the density of the same spectrum by stochastic Lanczos quadrature (Golub & Meurant 2010).

    From each probe, a random direction, Lanczos steps with full orthogonalisation give nodes (Ritz values) and weights
    (the squared first components of their vectors). Their moments up to 2 * steps - 1 are exact for that direction, and
    the average over all directions is the density.

    Args:
        model: as `extreme_eigenvalues` takes it.
        batches: the same.
        masks: the same.
        steps: products with the Hessian for each probe; fewer if the matrix is smaller.
        probes: random directions.
        seed: of the probes.

    Raises:
        SupermaskError: as `extreme_eigenvalues` raises it of its arguments, or steps or probes are below 1.

    """
    if steps < 1 or probes < 1:
        raise SupermaskError(f"steps={steps} and probes={probes} must be 1 or more.")
    with _product(model, batches, masks) as product:
        found = [_quadrature(product, _first(product.size, seed, probe), steps) for probe in range(probes)]
    # a probe may end early, in a subspace that the Hessian maps to itself: nodes of weight 0 fill its row
    longest = max(len(nodes) for nodes, _ in found)
    nodes, weights = (
        np.stack([np.pad(each[side], (0, longest - len(each[side]))) for each in found]) for side in (0, 1)
    )
    return Density(nodes, weights / probes)


class _Product:
    """The product of H_mm with a vector of the kept weights, float64 (size,)."""

    def __init__(self, model: nn.Module, batches: list[tuple[Tensor, Tensor]], masks: Mapping[str, Tensor]) -> None:
        named = {name: each for name, each in model.named_parameters() if each.requires_grad}
        for name, mask in masks.items():
            if name not in named or named[name].shape != mask.shape or mask.dtype != torch.bool:
                raise SupermaskError(f"The mask of {name} is not a bool mask of a parameter that needs a gradient.")
        self._model, self._batches, self._parameters = model, batches, list(named.values())
        whole = {name: torch.ones_like(each, dtype=torch.bool) for name, each in named.items()}
        self._kept = [masks.get(name, mask).to(mask.device) for name, mask in whole.items()]
        self._sizes = [int(mask.sum()) for mask in self._kept]
        self.size, self._examples = sum(self._sizes), sum(len(labels) for _, labels in batches)
        if not self.size or not self._examples:
            raise SupermaskError("There is no Hessian without weights that need a gradient, or without examples.")

    def __call__(self, vector: Vector) -> Vector:
        directions = self._scattered(torch.from_numpy(vector))
        total = torch.zeros(self.size, dtype=torch.float64)
        for inputs, labels in self._batches:
            # a sum and not a mean, because the last batch may be smaller
            loss = cross_entropy(self._model(inputs), labels, reduction="sum")
            gradients = torch.autograd.grad(loss, self._parameters, create_graph=True, materialize_grads=True)
            pairs = zip(gradients, directions, strict=True)
            slope = torch.stack([(gradient * direction).sum() for gradient, direction in pairs]).sum()
            products = torch.autograd.grad(slope, self._parameters, materialize_grads=True)
            # float64 across batches, which costs nothing beside the passes
            total += torch.cat([each[kept].cpu().double() for each, kept in zip(products, self._kept, strict=True)])
        return (total / self._examples).numpy()

    def _scattered(self, vector: Tensor) -> list[Tensor]:
        """Return a tensor for each parameter, zero where nothing is kept."""
        directions = []
        for parameter, kept, part in zip(self._parameters, self._kept, vector.split(self._sizes), strict=True):
            direction = torch.zeros_like(parameter, requires_grad=False)
            direction[kept] = part.to(direction)
            directions.append(direction)
        return directions


@contextmanager
def _product(model: nn.Module, batches: Batches, masks: Mapping[str, Tensor] | None) -> Iterator[_Product]:
    """Give the product, with the model in evaluation mode as long as it is used."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        # the caller may have switched gradients off
        with torch.enable_grad():
            yield _Product(model, list(batches), masks or {})
    finally:
        for module, mode in modes.items():
            # the attribute, because train() would also set all modules below
            module.training = mode


def _one_end(product: _Product, count: int, end: str, seed: int) -> list[float]:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh  # takes a while to import

    operator = LinearOperator((product.size, product.size), matvec=product, dtype=np.float64)
    start = _first(product.size, seed, 0)
    try:
        values = eigsh(
            operator, count, which=end, v0=start, tol=_TOLERANCE, maxiter=_RESTARTS, return_eigenvectors=False
        )
    except ArpackNoConvergence as error:
        raise SupermaskError(
            f"Only {len(error.eigenvalues)} of {count} eigenvalues converged at one end of the spectrum; ask for fewer."
        ) from error
    return sorted(map(float, values))


def _all_eigenvalues(product: _Product) -> list[float]:
    matrix = np.stack([product(unit) for unit in np.eye(product.size)])
    # the mean of both triangles, which rounding makes a little different
    return [float(value) for value in np.linalg.eigvalsh((matrix + matrix.T) / 2)]


def _first(size: int, seed: int, number: int) -> Vector:
    vector = keyed_generator(seed, "hessian", number).standard_normal(size)
    return vector / np.linalg.norm(vector)


def _quadrature(product: _Product, vector: Vector, steps: int) -> tuple[Vector, Vector]:
    """Return nodes and weights (with the sum 1) of a unit vector."""
    basis = [vector]
    diagonal: list[float] = []
    beside: list[float] = []
    for step in range(min(steps, product.size)):
        following = product(basis[-1])
        diagonal.append(float(basis[-1] @ following))
        known = np.stack(basis)
        # twice is enough: once leaves what rounding takes from orthogonality
        for _ in range(2):
            following = following - known.T @ (known @ following)
        norm = float(np.linalg.norm(following))
        # what is left is rounding: the steps have found all that the vector reaches
        if step + 1 == min(steps, product.size) or norm <= 1e-7 * max(map(abs, [*diagonal, *beside])):
            break
        beside.append(norm)
        basis.append(following / norm)
    tridiagonal = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    nodes, vectors = np.linalg.eigh(tridiagonal)
    return nodes, vectors[0] ** 2
