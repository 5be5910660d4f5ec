"""A large difference between two networks, found by gradient ascent over a domain: the certificate's lower end."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from theory.constructions.effective import run_effective
from theory.domains import Domain
from theory.norms import Norm
from theory.target import Shape, Target, TargetLayer

STARTS = 384
"""Inputs that the search starts at: one third random, two thirds the ends of axes."""
LEAST_STARTS = 24
"""Eight random inputs and both ends of eight axes, however large the network is."""
EFFORT = 5e7
"""Multiplications of the target that all starts may take in a step: fewer starts for larger networks."""
SLOW = 20
"""How much longer a multiplication takes in a convolution, roughly; only the number of starts depends on it."""
STEPS = 200
HALVED = (0.25, 0.5)
"""Shares of the steps after which only the better half of the inputs goes on; those behind hardly ever catch up."""
RUN = 16
"""The best inputs found, on which the networks themselves are run: only their outputs count as a lower bound."""
INWARD = 4.0
"""Steps of a coarser dtype by which these inputs are moved into the domain: their rounding moves some out of it."""


@torch.enable_grad()  # also where the caller needs none
def search_from_below(
    target: Target,
    network: nn.Module,
    found: Sequence[Callable[[TargetLayer, Tensor], Tensor]],
    *,
    domain: Domain,
    norm: Norm,
    seed: int,
    dtype: torch.dtype = torch.float64,
) -> float:
    """Return the largest difference found over a domain.

    Projected gradient ascent from random inputs and from both ends of axes, over the algebra of the two networks, which
    is small; the masked network itself is then run on the inputs that it came to, beside the target.

    Args:
        target: of the network.
        network: float64 module.
        found: what its pairs compute.
        domain: of the inputs.
        norm: of inputs and outputs.
        seed: of the random starts.
        dtype: in which the two are run at last.

    """
    x = domain.project(_starts(target, seed), "l2")
    best, reached = x.clone(), torch.zeros(len(x), dtype=torch.float64)
    halved = {int(share * STEPS) for share in HALVED}
    for step in range(STEPS):
        if step in halved:
            ahead = reached.topk(min(len(x), max(RUN, len(x) // 2))).indices
            x, best, reached = x[ahead], best[ahead], reached[ahead]
        at = domain.place(x).requires_grad_()
        differences = norms(target(at) - run_effective(target, found, at), norm)
        (gradient,) = torch.autograd.grad(differences.sum(), at)
        higher = differences.detach() > reached  # a step can leave the region of a ReLU and lose what it had
        best[higher], reached[higher] = x[higher], differences.detach()[higher]
        pace = 0.5 * (1.0 - step / STEPS)  # of a unit ball: half of its radius at first, less and less
        x = domain.project(x + pace * _direction(gradient, domain.ascends_by(norm)), norm)
    best = best[reached.topk(min(RUN, len(best))).indices]
    with torch.no_grad():
        if dtype is torch.float64:
            return _difference(target, network, domain.place(best), norm)
        best = torch.cat([best, (1.0 - INWARD * torch.finfo(dtype).eps) * best])
        chosen = domain.place(best).to(dtype)
        chosen = chosen[domain.holds(chosen.double(), norm)]
        return _difference(target, deepcopy(network).to(dtype), chosen, norm)


def _difference(target: Target, network: nn.Module, x: Tensor, norm: Norm) -> float:
    """Return the largest difference of the two on some inputs, in their dtype; 0 where there are none."""
    apart = norms(target(x).double() - network(x).double(), norm) if len(x) else torch.zeros(1)
    return float(apart.max())


def norms(batch: Tensor, norm: Norm) -> Tensor:
    """Return the norm of each tensor of a batch, (batch,)."""
    rows = batch.flatten(1).double()
    if norm == "linf":
        return rows.abs().amax(dim=1)
    scale = powers(rows)  # exact, so that no square overflows or vanishes
    return (rows / scale[:, None]).norm(dim=1) * scale


def powers(rows: Tensor) -> Tensor:
    """Return a power of two near the largest entry of each row; 1 for a row of zeros."""
    exponents = np.frexp(rows.detach().abs().amax(dim=1).numpy())[1]
    return torch.from_numpy(np.ldexp(1.0, np.clip(exponents, -1021, 1023)))


def _starts(target: Target, seed: int) -> Tensor:
    cost = sum(layer.kernel.size * layer.places * (SLOW if layer.convolutional else 1) for layer in target.layers)
    each = int(min(STARTS, max(LEAST_STARTS, EFFORT / cost))) // 3
    shape = target.input_shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(each, *shape, dtype=torch.float64, generator=generator)
    axes = _axes(shape, each, generator)
    return torch.cat([x, axes, -axes])


def _axes(shape: Shape, most: int, generator: torch.Generator) -> Tensor:
    """Return unit vectors along so many axes, drawn at random, or along all axes where there are not more."""
    count = torch.Size(shape).numel()
    chosen = torch.arange(count) if count <= most else torch.randperm(count, generator=generator)[:most]
    axes = torch.zeros(len(chosen), count, dtype=torch.float64)
    axes[torch.arange(len(chosen)), chosen] = 1.0
    return axes.reshape(-1, *shape)


def _direction(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    return gradient / _column(gradient, norms(gradient, norm).clamp(min=1e-300))  # a gradient of zero stays zero


def _column(batch: Tensor, values: Tensor) -> Tensor:
    """Return one value per tensor of a batch in a shape that divides it."""
    return values.reshape(-1, *[1] * (batch.dim() - 1))
