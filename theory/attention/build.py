"""Build: prune one random transformer to an attention layer or a transformer, and certify how far the two are apart."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from tqdm.auto import tqdm

from supermask.errors import SupermaskError
from supermask.random.weights import checked_seed, digest, grow_all
from supermask.ticket import Ticket
from supermask.versions import versions
from theory.attention.certificate import TokenCertificate, certify_tokens, proven_tokens
from theory.attention.domains import Sequences, TokenBall
from theory.attention.maps import LinearMap
from theory.attention.network import Plan, plan_network
from theory.attention.parts import Embed, Part, maps_of, units_of, with_maps
from theory.attention.pruning import items_for, prune
from theory.attention.reading import read_transformer
from theory.target import Matrix

TRIAL = 1e-6
"""Errors, over the scale of a map, with which the target is tried before anything is drawn: small, so that what they do
is proportional to them, and far above the rounding of float64."""
LEAST = 2.0**-40
"""The least error, over the scale of a map, that is asked for: what float64 resolves of a subset sum, nearly."""


@dataclass(frozen=True, eq=False)
class BuiltTransformer:
    """A pruned random transformer beside its target.

    Attributes:
        network: the one masked random network, float64: tokens (batch, T, units), or ids (batch, T), to what the target
            makes of them.
        ticket: the same as a Ticket.
        certificate: how far the two are apart.
        epsilon: the distance that was asked for.
        errors: by how much each number of the target's maps is missed, per map a matrix (outputs, inputs), with one
            column more where there is an offset. The maps of a head are its scores and what it reads.
        widths: hidden units per input of each map: of a head, its key width and its value width.
        target: the module itself, a copy in float64.
        parts: the target as it was read.
        effective: the same parts with the maps that the network computes.
        causal: whether the target was read with a causal mask.

    """

    network: nn.Sequential
    ticket: Ticket
    certificate: TokenCertificate
    epsilon: float
    errors: tuple[Matrix, ...]
    widths: tuple[int, ...]
    target: nn.Module
    parts: tuple[Part, ...]
    effective: tuple[Part, ...]
    causal: bool

    @property
    def within(self) -> bool:
        """Whether the random network is proven to contain the target within epsilon."""
        return self.certificate.upper <= self.epsilon

    def certify(self, domain: Sequences) -> TokenCertificate:
        """Return the certificate of the same network over another domain.

        Raises:
            SupermaskError: the domain is one of other inputs.

        """
        check_domain(self.parts, domain)
        return certify_tokens(
            self.target, self.parts, self.network, self.effective, domain, causal=self.causal, seed=self.ticket.seed
        )


def construct_transformer(
    target: nn.Module,
    epsilon: float,
    *,
    domain: Sequences | None = None,
    causal: bool = False,
    seed: int = 0,
    width: int | None = None,
    progress: bool = True,
) -> BuiltTransformer:
    """Prune a random transformer to a target.

    The random network is drawn once, from the seed. Its attention is no deeper than the target's, and its heads are
    wider: `width` units for each input, and for the offset of values. If it does not contain the target within epsilon,
    the certificate says so; nothing is drawn again.

    Args:
        target: an `nn.MultiheadAttention` of a sequence to itself, an `nn.TransformerEncoderLayer` or
            `nn.TransformerEncoder` that normalises first, or a `CharGPT`. Dropout does nothing: both are run as in
            evaluation.
        epsilon: largest l2 difference wanted of a token that comes out, over the domain.
        domain: where the sequences are; by default those of tokens in the unit ball.
        causal: whether a token reads those up to its own alone. A CharGPT always does.
        seed: of the random network, an integer from 0 to 2**63 - 1.
        width: hidden units per input of each map; None chooses them from epsilon.
        progress: show a progress bar where standard error is a terminal.

    Raises:
        SupermaskError: the target is not read, or an argument is out of range.

    """
    if not 0.0 < epsilon < math.inf:
        raise SupermaskError(f"epsilon={epsilon!r} must be a positive number.")
    if width is not None and (not isinstance(width, int) or isinstance(width, bool) or width < 1):
        raise SupermaskError(f"width={width} is not a number of hidden units; give an integer of at least 1.")
    checked_seed(seed)
    domain = TokenBall() if domain is None else domain
    parts = read_transformer(target, causal=causal)
    check_domain(parts, domain)
    maps = list(maps_of(parts))
    tolerance = _tolerance(parts, maps, epsilon, domain)
    widths = [width or items_for(each.matrix.size + each.outputs, tolerance) for each in maps]
    plan = plan_network(parts, iter(widths))
    grown = grow_all(plan.weights, seed)
    drawn = digest(grown)  # before anything else reads them
    total = sum(each.outputs * (each.inputs + 1) for each in maps)
    with tqdm(total=total, unit="weight", unit_scale=True, disable=None if progress else True, leave=False) as bar:
        pruned = prune(plan, maps, grown, tolerance, bar.update)
    provenance = {
        "algorithm": "attention_diamond",
        "source": "Otsuka et al. 2025; Pensia et al. 2020, linear structure",
        "options": {"epsilon": epsilon, "domain": str(domain), "tolerance": tolerance, "causal": causal},
        "widths": [diamond.width for diamond in plan.diamonds],
        "target": type(target).__name__,
        "versions": versions(),
    }
    ticket = Ticket(seed=seed, weights=plan.weights, masks=pruned.masks, digest=drawn, provenance=provenance)
    ticket.apply(plan.network, grown=grown).requires_grad_(False)  # which checks that they are what was drawn
    effective = effective_parts(plan, parts)
    copy = deepcopy(target).cpu().double().eval().requires_grad_(False)
    certificate = certify_tokens(copy, parts, plan.network, effective, domain, causal=causal, seed=seed)
    bounds: dict[str, Any] = {"upper": certificate.upper, "lower": certificate.lower}
    bounds = {name: bound if math.isfinite(bound) else None for name, bound in bounds.items()}  # as JSON takes them
    return BuiltTransformer(
        network=plan.network,
        ticket=replace(ticket, provenance={**provenance, "certificate": bounds}),
        certificate=certificate,
        epsilon=epsilon,
        errors=pruned.errors,
        widths=tuple(diamond.width for diamond in plan.diamonds),
        target=copy,
        parts=parts,
        effective=effective,
        causal=causal,
    )


def network_of(ticket: Ticket, target: nn.Module, *, causal: bool = False) -> nn.Sequential:
    """Return the network of a ticket that was built for a target of this architecture, float64.

    Args:
        ticket: of `construct_transformer`, read from a file.
        target: of the same architecture; its weights are not looked at.
        causal: as the ticket was built.

    Raises:
        SupermaskError: the ticket is of another construction or architecture.

    """
    widths = ticket.provenance.get("widths")
    if ticket.provenance.get("algorithm") != "attention_diamond" or not isinstance(widths, Sequence):
        raise SupermaskError(
            "The ticket is not one of a transformer that was built; give one of construct_transformer."
        )
    plan = plan_network(read_transformer(target, causal=causal), iter(widths))
    found = ticket.apply(plan.network).requires_grad_(False)
    assert isinstance(found, nn.Sequential)
    return found


def effective_parts(plan: Plan, parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return what the network that came out computes, from its own masked tensors."""
    tensors: dict[str, Tensor] = {name: each.detach() for name, each in plan.network.named_parameters()}
    return with_maps(parts, (diamond.computes(tensors) for diamond in plan.diamonds))


def check_domain(parts: Sequence[Part], domain: Sequences) -> None:
    """Refuse a domain of other inputs than the target takes.

    Raises:
        SupermaskError: it is one.

    """
    if isinstance(domain, TokenBall):
        return
    first, given = parts[0], domain.sequences
    if not isinstance(first, Embed):
        if given.shape[2:] != (units_of(parts),):
            raise SupermaskError(
                f"The sequences have the shape {tuple(given.shape)}; the target takes"
                f" (sequences, T, {units_of(parts)})."
            )
        return
    vocabulary, context = first.tokens.inputs, first.places.inputs
    if given.is_floating_point() or given.shape[1] > context:
        raise SupermaskError(f"The target takes ids of the shape (sequences, T), with T at most {context}.")
    if not 0 <= int(given.min()) <= int(given.max()) < vocabulary:
        raise SupermaskError(f"The sequences hold ids outside of 0 to {vocabulary - 1}.")


def _tolerance(parts: Sequence[Part], maps: Sequence[LinearMap], epsilon: float, domain: Sequences) -> float:
    """Return the error, over the scale of its map, that a number may have, so that the difference stays within epsilon.

    The certificate of the target against itself with random errors tells what errors do. This is a plan, for half of
    epsilon; the certificate of the network is what holds.
    """
    random = np.random.default_rng(0)

    def tried(each: LinearMap) -> LinearMap:
        error = 2.0 * TRIAL * max(float(np.abs(each.matrix).max()), float(np.abs(each.offset).max()))
        moved = error * random.uniform(-1.0, 1.0, (each.outputs, each.inputs + 1))
        # scores have no offset, and one would be the same for all keys
        offset = each.offset + moved[:, -1] * bool(each.offset.any())
        return replace(each, matrix=each.matrix + moved[:, :-1], offset=offset)

    reached = proven_tokens(parts, with_maps(parts, map(tried, maps)), domain)
    if not 0.0 < reached < math.inf:
        return TRIAL
    return min(0.25, max(TRIAL * epsilon / (2.0 * reached), LEAST))
