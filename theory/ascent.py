"""A large difference between two networks, found by gradient ascent over a ball: the certificate's lower end."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from theory.constructions.effective import Effective, run_effective
from theory.norms import Norm
from theory.target import Shape, Target

STARTS = 384
"""Inputs that the search starts at: one third random, two thirds the ends of axes."""
LEAST_STARTS = 24
"""Eight random inputs and both ends of eight axes, however large the network is."""
EFFORT = 5e7
"""Multiplications of the target that all starts may take in a step: fewer starts for larger networks."""
SLOW = 20
"""How much longer a multiplication takes in a convolution, roughly; only the number of starts depends on it."""
STEPS = 200
RUN = 16
"""The best inputs found, on which the networks themselves are run: only their outputs count as a lower bound."""


def search_from_below(
    target: Target, network: nn.Module, found: Sequence[Effective], *, radius: float, norm: Norm, seed: int
) -> float:
    """Return the largest difference found over the ball.

    Projected gradient ascent from random inputs and from both ends of axes, over the algebra of the two networks, which
    is small; the masked network itself is then run on the inputs that it came to, beside the target.

    Args:
        target: of the network.
        network: float64 module.
        found: what its pairs compute.
        radius: of the ball of inputs.
        norm: of inputs and outputs.
        seed: of the random starts.

    """
    x = _starts(target, seed)
    best, reached = x.clone(), torch.zeros(len(x), dtype=torch.float64)
    for step in range(STEPS):
        at = (x * radius).requires_grad_()
        differences = norms(target(at) - run_effective(target, found, at), norm)
        (gradient,) = torch.autograd.grad(differences.sum(), at)
        higher = differences.detach() > reached  # a step can leave the region of a ReLU and lose what it had
        best[higher], reached[higher] = x[higher], differences.detach()[higher]
        pace = 0.5 * (1.0 - step / STEPS)  # of a unit ball: half of its radius at first, less and less
        x = _to_ball(x + pace * _direction(gradient, norm), norm)
    chosen = best[reached.topk(min(RUN, len(best))).indices] * radius
    with torch.no_grad():
        return float(norms(target(chosen) - network(chosen), norm).max())


def norms(batch: Tensor, norm: Norm) -> Tensor:
    """Return the norm of each tensor of a batch, (batch,)."""
    rows = batch.flatten(1)
    return rows.abs().amax(dim=1) if norm == "linf" else rows.norm(dim=1)


def _starts(target: Target, seed: int) -> Tensor:
    cost = sum(layer.kernel.size * layer.places * (SLOW if layer.convolutional else 1) for layer in target.layers)
    each = int(min(STARTS, max(LEAST_STARTS, EFFORT / cost))) // 3
    shape = target.input_shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(each, *shape, dtype=torch.float64, generator=generator)
    axes = _axes(shape, each, generator)
    return _to_ball(torch.cat([x, axes, -axes]), "l2")


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


def _to_ball(x: Tensor, norm: Norm) -> Tensor:
    """Return the inputs projected into the unit ball."""
    if norm == "linf":
        return x.clamp(-1.0, 1.0)
    return x / _column(x, norms(x, norm).clamp(min=1.0))


def _column(batch: Tensor, values: Tensor) -> Tensor:
    """Return one value per tensor of a batch in a shape that divides it."""
    return values.reshape(-1, *[1] * (batch.dim() - 1))
