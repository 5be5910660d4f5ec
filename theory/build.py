"""Build: prune one fixed random network to a given target, and certify how far it is from it."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.random_weights import digest
from supermask.ticket import Ticket
from supermask.versions import versions
from theory.certificate import Certificate, Norm, certify, check_ball, effective_layers, run_target
from theory.constructions import Construction, named_construction
from theory.constructions.diamond import PairMasks, prune_pair
from theory.constructions.layout import Widths, draw, empty_network, linear_names, random_weights
from theory.target import Layer, Matrix, layers_of


@dataclass(frozen=True, eq=False)
class Built:
    """A pruned random network beside its target.

    Attributes:
        network: the one masked random network, float64, with twice the target's layers.
        ticket: the same as a Ticket.
        certificate: how far the two are apart.
        epsilon: the distance that was asked for.
        errors: by how much each weight of the target is missed, a matrix (outputs, inputs + 1 with a bias) per layer.
        widths: hidden units per input of the target, per layer.

    """

    network: nn.Sequential
    ticket: Ticket
    certificate: Certificate
    epsilon: float
    errors: tuple[Matrix, ...]
    widths: tuple[int, ...]

    @property
    def within(self) -> bool:
        """Whether the random network is proven to contain the target within epsilon."""
        return self.certificate.upper <= self.epsilon


def construct(
    target: nn.Module,
    epsilon: float,
    *,
    construction: str = "relu_diamond",
    seed: int = 0,
    width: int | None = None,
    radius: float = 1.0,
    norm: Norm = "l2",
) -> Built:
    """Prune a random network to a target.

    The random network is drawn once, from the seed. If it does not contain the target within epsilon, the certificate
    says so; nothing is drawn again. The target's weights are scaled to at most one half, layer by layer, exactly: the
    second hop of a layer is uniform on [-scale, scale], and the scale is part of the ticket.

    Args:
        target: `nn.Sequential` of Linear and ReLU, with or without biases.
        epsilon: largest difference wanted, in the norm of the outputs, over the ball of inputs.
        construction: "relu_diamond" or, for a target without ReLUs, "linear_diamond".
        seed: of the random network.
        width: hidden units per input of each target layer; None chooses them from epsilon.
        radius: of the ball of inputs.
        norm: "l2" or "linf", of inputs and outputs.

    Returns:
        The network, its ticket and its certificate.

    Raises:
        SupermaskError: the target cannot be built, or an argument is out of range.

    """
    if not 0.0 < epsilon < math.inf:
        raise SupermaskError(f"epsilon={epsilon!r} must be a positive number.")
    if width is not None and width < 1:
        raise SupermaskError(f"width={width} is too small; give at least one hidden unit per input.")
    check_ball(radius, norm)
    how, layers = named_construction(construction), layers_of(target)
    exact = deepcopy(target).cpu().double().eval()
    _check_reading(exact, layers)
    halves = how.halves(layers)
    shares = _shares(layers, epsilon, radius)
    widths = [_widths(*each, width) for each in zip(layers, shares, map(len, halves), strict=True)]
    flatten = any(isinstance(module, nn.Flatten) for module in target.children())
    network = empty_network(layers, widths, relu=how.relu, flatten=flatten)
    names = linear_names(network)
    weights = random_weights(layers, widths, names)
    pairs, grown = draw(weights, names, widths, seed)
    pruned = [
        prune_pair(layer, pair, halves=half, tolerance=share)
        for layer, pair, half, share in zip(layers, pairs, halves, shares, strict=True)
    ]
    ticket = Ticket(
        seed=seed,
        weights=weights,
        masks=_masks(pruned, names),
        digest=digest(grown),
        provenance=_provenance(how, epsilon, widths, radius, norm),
    )
    ticket.apply(network)
    certificate = _certify(exact, network, layers, names, how, halves, radius, norm, seed)
    found = tuple(masks.errors for masks in pruned)
    return Built(network, ticket, certificate, epsilon, found, tuple(chosen.width for chosen in widths))


@torch.no_grad()
def _check_reading(target: nn.Module, layers: Sequence[Layer]) -> None:
    """Refuse a target that computes something else than its layers say, by which the proof would be of another one."""
    inputs = torch.randn(64, layers[0].inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    read, computed = run_target(layers, inputs), target(inputs)
    # relative to the largest output: where terms cancel, the two round differently
    if read.shape != computed.shape or float((read - computed).abs().max()) > 1e-9 * float(read.abs().max()):
        raise SupermaskError(
            "The target does not compute what its Linear and ReLU modules say; give plain modules without hooks."
        )


def _shares(layers: Sequence[Layer], epsilon: float, radius: float) -> list[float]:
    """Return the error that each weight of a layer may have, so that the network's stays below epsilon / 2.

    Layer i may add epsilon / 2l; what it adds is its error operator, at most sqrt(entries) times an entry, times the
    size of its input and the norms of the layers behind it.
    """
    norms = [float(np.linalg.norm(layer.weight, 2)) for layer in layers]
    size, sizes = max(radius, 1.0), []
    for layer, norm in zip(layers, norms, strict=True):
        sizes.append(math.hypot(size, 1.0))
        size = norm * size + float(np.linalg.norm(layer.offset))
    behind = [max(math.prod(norms[i + 1 :]), 1e-300) for i in range(len(norms))]
    share = epsilon / (2 * len(layers))
    return [
        share / (math.sqrt(layer.weight.size + layer.outputs) * sizes[i] * behind[i]) for i, layer in enumerate(layers)
    ]


def _widths(layer: Layer, share: float, halves: int, width: int | None) -> Widths:
    """Return the width of a layer's blocks and the scale of its second hop."""
    largest = max(float(np.abs(layer.weight).max()), float(np.abs(layer.offset).max()), 1e-300)
    scale = 2.0 * largest
    return Widths(width or _width(layer, share / scale, halves), scale)


def _width(layer: Layer, error: float, halves: int) -> int:
    """Return hidden units per input so that all blocks have items enough with probability 0.99.

    The best of 2^n subset sums misses by about 2^-n, and the worst of N by N times as much (measured: `theory.laws`
    has the law), so n = log2(N / error) + 3 items. Half of a block's units have the sign that is wanted.
    """
    items = math.ceil(math.log2(max(2.0, layer.weight.size / error))) + 3
    blocks = layer.inputs * halves + 1
    width = items
    while binom.cdf(items - 1, width, 0.5) > 0.01 / blocks:
        width += 1
    return width


def _masks(pruned: Sequence[PairMasks], names: Sequence[str]) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    for i, pair in enumerate(pruned):
        masks[f"{names[2 * i]}.weight"] = torch.from_numpy(pair.first)
        if pair.offset is not None:
            masks[f"{names[2 * i]}.bias"] = torch.from_numpy(pair.offset)
        masks[f"{names[2 * i + 1]}.weight"] = torch.from_numpy(pair.second)
    return masks


def _certify(
    target: nn.Module,
    network: nn.Sequential,
    layers: Sequence[Layer],
    names: Sequence[str],
    how: Construction,
    halves: Sequence[tuple[int, ...]],
    radius: float,
    norm: Norm,
    seed: int,
) -> Certificate:
    """Certify the network that came out, from its own masked tensors."""
    tensors = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    pairs = [
        (
            tensors[f"{names[2 * i]}.weight"],
            tensors.get(f"{names[2 * i]}.bias"),
            tensors[f"{names[2 * i + 1]}.weight"],
        )
        for i in range(len(layers))
    ]
    effective = effective_layers(pairs, relu=how.relu, signed=[-1 in half for half in halves])
    return certify(target, network, layers, effective, radius=radius, norm=norm, seed=seed)


def _provenance(
    how: Construction, epsilon: float, widths: Sequence[Widths], radius: float, norm: Norm
) -> dict[str, Any]:
    return {
        "algorithm": how.name,
        "source": how.source,
        "options": {"epsilon": epsilon, "radius": radius, "norm": norm},
        "widths": [chosen.width for chosen in widths],
        "scales": [chosen.scale for chosen in widths],
        "versions": versions(),
    }
