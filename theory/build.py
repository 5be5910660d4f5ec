"""Build: prune one fixed random network to a given target, and certify how far it is from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from supermask.errors import SupermaskError
from supermask.models.sequence import describe
from supermask.random.weights import checked_seed, digest
from supermask.ticket import Ticket
from supermask.versions import versions
from theory.balance import balanced
from theory.calibration import Attempt, calibrated
from theory.certificate import Certificate, certify, check_norm, proven
from theory.constructions import Construction, named_construction
from theory.constructions.effective import Effective, effective, errors_of
from theory.constructions.prune import Pruned, prune_pair, weights_to_meet
from theory.constructions.random_pair import (
    RandomPair,
    Widths,
    absent,
    check_blocks,
    draw,
    empty_network,
    where_free,
)
from theory.counts import LayerCounts, count
from theory.domains import Ball, Domain
from theory.error_budget import per_weight
from theory.graph.shape_check import Shape
from theory.norms import Norm
from theory.precision import precision_of
from theory.reading import check_reading
from theory.target import Matrix, Target, read_target


@dataclass(frozen=True, eq=False)
class Built:
    """A pruned random network beside its target.

    Attributes:
        network: the one masked random network, float64, with twice the target's layers.
        ticket: the same as a Ticket.
        certificate: how far the two are apart.
        epsilon: the distance that was asked for.
        errors: by how much each weight of the target is missed, per layer a matrix (outputs, inputs), in a convolution
            (outputs, inputs * height * width), with one column more where there is a bias.
        widths: hidden units per input of the target, per layer.
        counts: hidden units and weights of each pair of layers, beside what the theorems say.
        target: as it was read: layers in float64.
        tolerances: the error that each weight of a layer may have for the whole to be within epsilon, per layer.
        effective: what each pair of random layers computes.

    """

    network: nn.Sequential
    ticket: Ticket
    certificate: Certificate
    epsilon: float
    errors: tuple[Matrix, ...]
    widths: tuple[int, ...]
    counts: tuple[LayerCounts, ...]
    target: Target
    tolerances: tuple[float, ...]
    effective: tuple[Effective, ...]

    @property
    def input_shape(self) -> Shape:
        """Shape of one input, without the batch; the certificate of a network with convolutions is for this shape."""
        return self.target.input_shape

    @property
    def within(self) -> bool:
        """Whether the random network is proven to contain the target within epsilon."""
        return self.certificate.upper <= self.epsilon

    def certify(self, domain: Domain, *, dtype: torch.dtype = torch.float64, norm: Norm | None = None) -> Certificate:
        """Return the certificate of the same network over another domain, or in another dtype or norm.

        Raises:
            SupermaskError: the domain has negative inputs, and the network has paths for others only; or it is one of
                other inputs.

        """
        if domain.signed and not self.target.layers[0].signed:
            raise SupermaskError(f"The network is for inputs that are not negative, and {domain} has others.")
        norm = self.certificate.norm if norm is None else norm
        network, found, seed = self.network, self.effective, self.ticket.seed
        return certify(self.target, network, found, domain=domain, norm=norm, seed=seed, dtype=dtype)


def construct(
    target: nn.Module,
    epsilon: float,
    *,
    construction: str = "relu_diamond",
    seed: int = 0,
    width: int | None = None,
    radius: float = 1.0,
    domain: Domain | None = None,
    norm: Norm = "l2",
    dtype: torch.dtype = torch.float64,
    both_halves: bool = False,
    grouped: bool = False,
    calibrate: bool = False,
    source_density: float = 1.0,
    input_shape: Sequence[int] | None = None,
    progress: bool = True,
) -> Built:
    """Prune a random network to a target.

    The random network is drawn once, from the seed. If it does not contain the target within epsilon, the certificate
    says so; nothing is drawn again. The target's weights are scaled to at most one half, layer by layer, exactly: the
    second hop of a layer is uniform on [-scale, scale], and the scale is part of the ticket.

    Args:
        target: a network of linear and convolutional layers with ReLUs, pooling, flattening, batch norm, sums and
            concatenations, as an `nn.Sequential` or a module of another kind (`theory.graph` says what it reads).
        epsilon: largest difference wanted, in the norm of the outputs, over the domain of inputs.
        construction: "relu_diamond"; "convolution", the same for targets with convolutions; "linear_diamond", for
            targets without ReLUs; "leaky_diamond", with leaky ReLUs between the hops; "sign_diamond", with weights of
            one size, "malach" and "malach_products", one path per weight, for small targets.
        seed: of the random network, an integer from 0 to 2**63 - 1.
        width: hidden units per input of each target layer; None chooses them from epsilon.
        radius: of the ball of inputs, where no domain is given.
        domain: where the inputs are (`theory.domains`); by default the ball. Where none is negative, as of pixels,
            one half of each block of the first hop is enough, and the ticket is that much smaller.
        norm: "l2" or "linf", of inputs and outputs; that of an image is over all its pixels.
        dtype: in which the target and the network will be run, float64, float32 or bfloat16: the certificate covers its
            rounding. The network is returned in float64; `network.to(dtype)` runs it.
        both_halves: give paths to negative inputs also behind a ReLU, as the theorem does; they change nothing there.
        grouped: leave out the weights of the first hops that are always pruned, those between an input and the blocks
            of others; the random network is that much smaller, and fits into memory for large targets.
        calibrate: prune the one random network again, with errors of weights as large as epsilon allows, until the
            certificate spends nine tenths of it: fewer weights are kept. Widths are those of the first plan.
        source_density: share of the random weights that there are at all; the seed prunes the others before anything
            is chosen, and the ticket does not hold which they are (random sparse networks, Gadhikar et al. 2023).
        input_shape: of one input without the batch; by default what the target's layers tell, which for convolutions is
            the smallest square image that fits, or what the domain tells.
        progress: show a progress bar where standard error is a terminal.

    Returns:
        The network, its ticket and its certificate.

    Raises:
        SupermaskError: the target cannot be built, or an argument is out of range.

    """
    check_options(epsilon, width, norm, dtype, seed, source_density)
    domain = chosen_domain(domain, radius)
    how = named_construction(construction)
    read = balanced(read_target(target, input_shape or domain.shape, signed=domain.signed), dtype)
    how.check(read)
    size = domain.size(read.input_shape, norm)
    halves = [how.halves(layer, both=both_halves) for layer in read.layers]
    tolerances = tuple(per_weight(read, epsilon, domain, norm, by_weights=calibrate))
    plan = zip(read.layers, tolerances, halves, strict=True)
    widths = [how.widths(*each, width, source_density) for each in plan]
    check_reading(target, read, domain, norm)
    network, pairs = empty_network(read, widths, slope=how.slope, grouped=grouped)
    weights, grown = draw(pairs, seed)
    drawn = digest(grown)  # before anything else reads them
    presets = absent(weights, source_density)
    there = {name: where_free(tensor, presets.get(name), seed, name) for name, tensor in grown.items()}
    provenance = {
        **_provenance(how, epsilon, widths, domain, norm, dtype),
        "model": {"modules": describe(network), "input_shape": list(read.input_shape)},
    }

    def attempt(shares: Sequence[float]) -> Attempt:
        pruned = _prune(how, pairs, there, halves, shares, progress=progress)
        masks = _masks(pairs, pruned)
        ticket = Ticket(
            seed=seed, weights=weights, masks=masks, digest=drawn, provenance=provenance, presets=presets
        )  # fmt: skip
        ticket.apply(network, grown=grown).requires_grad_(False)  # which checks that they are what was drawn
        return Attempt(tuple(shares), pruned, ticket, _effective(pairs, network, slope=how.slope))

    def upper(found: Attempt) -> float:
        return proven(read, found.effective, domain, norm, precision_of(dtype))[0]

    best = calibrated(attempt, upper, tolerances, epsilon) if calibrate else attempt(tolerances)
    if calibrate:  # another attempt may have been the last
        best.ticket.apply(network, grown=grown).requires_grad_(False)
    grown.clear()  # a third of the network's memory
    there.clear()
    certificate = certify(read, network, best.effective, domain=domain, norm=norm, seed=seed, dtype=dtype)
    ticket = replace(best.ticket, provenance={**provenance, "certificate": _bounds(certificate)})
    return Built(
        network=network,
        ticket=ticket,
        certificate=certificate,
        epsilon=epsilon,
        errors=tuple(map(errors_of, read.layers, best.effective) if how.leaks else (p.errors for p in best.pruned)),
        widths=tuple(pair.width for pair in pairs),
        counts=count(pairs, best.pruned, epsilon, size),
        target=read,
        tolerances=best.tolerances,
        effective=tuple(best.effective),
    )


def check_options(
    epsilon: float, width: int | None, norm: str, dtype: torch.dtype, seed: int, source_density: float
) -> None:
    """Refuse arguments that are out of range.

    Raises:
        SupermaskError: one is.

    """
    if not 0.0 < epsilon < math.inf:
        raise SupermaskError(f"epsilon={epsilon!r} must be a positive number.")
    if width is not None and (not isinstance(width, int) or width < 1):
        raise SupermaskError(f"width={width} is not a number of hidden units; give an integer of at least 1.")
    if not 0.0 < source_density <= 1.0:
        raise SupermaskError(f"source_density={source_density!r} must be above 0 and at most 1.")
    check_norm(norm)
    precision_of(dtype)
    checked_seed(seed)


def chosen_domain(domain: Domain | None, radius: float) -> Domain:
    """Return the domain that was given, or else the ball of the radius.

    Raises:
        SupermaskError: both are given, or the radius is none.

    """
    if domain is None:
        return Ball(radius)
    if radius != 1.0:
        raise SupermaskError(f"radius={radius} is that of a ball, and a domain is given too; give one of them.")
    return domain


def _prune(
    how: Construction,
    pairs: Sequence[RandomPair],
    grown: dict[str, Tensor],
    halves: Sequence[tuple[int, ...]],
    tolerances: Sequence[float],
    *,
    progress: bool,
) -> list[Pruned]:
    total = sum(weights_to_meet(pair, signs) for pair, signs in zip(pairs, halves, strict=True))
    with tqdm(total=total, unit="weight", unit_scale=True, disable=None if progress else True, leave=False) as bar:
        found = []
        for pair, signs, share in zip(pairs, halves, tolerances, strict=True):
            served = how.served(signs)  # errors of the other half leak in, so that both may have their part only
            chosen = prune_pair(
                pair, pair.paths(grown), how.choose, halves=signs, tolerance=share * served, advance=bar.update,
                served=served,
            )  # fmt: skip
            found.append(chosen)
        return found


def _masks(pairs: Sequence[RandomPair], pruned: Sequence[Pruned]) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    for pair, found in zip(pairs, pruned, strict=True):
        masks |= pair.masks(found.hop, found.second)
    return masks


def _effective(pairs: Sequence[RandomPair], network: nn.Sequential, *, slope: float) -> list[Effective]:
    """Return what the network that came out computes, from its own masked tensors."""
    tensors = {name: parameter.detach() for name, parameter in network.named_parameters()}
    for pair in pairs:
        check_blocks(pair, tensors)
    return [effective(pair.layer, pair.paths(tensors), slope=slope) for pair in pairs]


def _provenance(
    how: Construction, epsilon: float, widths: Sequence[Widths], domain: Domain, norm: Norm, dtype: torch.dtype
) -> dict[str, Any]:
    where = {"radius": domain.radius} if isinstance(domain, Ball) else {"domain": str(domain)}
    runs_in = {} if dtype is torch.float64 else {"dtype": precision_of(dtype).name}
    return {
        "algorithm": how.name,
        "source": how.source,
        "options": {"epsilon": epsilon, **where, "norm": norm, **runs_in},
        "widths": [chosen.width for chosen in widths],
        "scales": [chosen.scale for chosen in widths],
        "versions": versions(),
    }


def _bounds(certificate: Certificate) -> dict[str, float | None]:
    bounds = {"upper": certificate.upper, "lower": certificate.lower}
    return {name: bound if math.isfinite(bound) else None for name, bound in bounds.items()}  # as JSON takes them
