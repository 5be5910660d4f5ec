"""How far a pruned transformer is from its target: proven from above, searched from below."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from theory.attention.domains import NearSequences, Sequences, TokenBall
from theory.attention.everywhere import bound_everywhere
from theory.attention.near import bound_near
from theory.attention.parts import Embed, Part, run, units_of
from theory.attention.reading import run_target
from theory.norms import SLACK

STARTS, LENGTH, STEPS = 64, 8, 100
"""Sequences that the search over a ball starts at, their tokens, and its steps."""
RUN = 8
"""Sequences at a time on which the networks themselves are run."""


@dataclass(frozen=True)
class TokenCertificate:
    """Bounds of the largest difference between two transformers over a domain of sequences, as they run in float64.

    Attributes:
        upper: no token that comes out differs by more, in the l2 norm (proven, the rounding of both included).
        entry: the same of the largest entry of a token: a logit, say.
        lower: the largest l2 difference that was found.
        domain: of the sequences.

    """

    upper: float
    entry: float
    lower: float
    domain: Sequences

    @property
    def ratio(self) -> float:
        """Upper over lower, at least 1: how much the proof may give away."""
        return self.upper / self.lower if self.lower > 0.0 else float("inf")


def certify_tokens(
    target: nn.Module,
    parts: Sequence[Part],
    network: nn.Module,
    effective: Sequence[Part],
    domain: Sequences,
    *,
    causal: bool,
    seed: int,
) -> TokenCertificate:
    """Return the certificate of a network against a target.

    Args:
        target: float64 module.
        parts: of it.
        network: float64 module.
        effective: the same parts with the maps that the network computes.
        domain: of the sequences.
        causal: with which mask the target is run.
        seed: of the search from below.

    """
    upper, entry = _proven(parts, effective, domain)
    found = _search(parts, effective, domain, seed)
    lower = max(_apart(target, network, each, causal) for each in found.split(RUN)) if len(found) else 0.0
    return TokenCertificate(upper, entry, lower, domain)


def proven_tokens(parts: Sequence[Part], effective: Sequence[Part], domain: Sequences) -> float:
    """Return a bound of the l2 difference of a token that comes out."""
    return _proven(parts, effective, domain)[0]


def _proven(parts: Sequence[Part], effective: Sequence[Part], domain: Sequences) -> tuple[float, float]:
    """Return bounds of the l2 difference of a token, and of its largest entry."""
    first = parts[0]
    if isinstance(domain, TokenBall):
        length = first.places.inputs if isinstance(first, Embed) else domain.length
        upper = bound_everywhere(parts, effective, domain.radius, length)
        return upper, upper
    near = bound_near(parts, effective, domain)
    if isinstance(first, Embed):  # whose tokens the radius moves out of all sequences of ids
        return near.token, near.entry
    size = float(domain.sequences.norm(dim=-1).max()) * SLACK + domain.radius
    upper = bound_everywhere(parts, effective, size, domain.sequences.shape[1])
    return min(near.token, upper), min(near.entry, upper)


@torch.no_grad()
def _apart(target: nn.Module, network: nn.Module, x: Tensor, causal: bool) -> float:
    return float((run_target(target, x, causal=causal) - network(x)).norm(dim=-1).max())


def _search(parts: Sequence[Part], effective: Sequence[Part], domain: Sequences, seed: int) -> Tensor:
    """Return sequences of the domain on which the two may be far apart, by gradient ascent over each token."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(parts[0], Embed):
        if isinstance(domain, NearSequences):
            return domain.sequences
        size = (STARTS, parts[0].places.inputs)
        return torch.randint(parts[0].tokens.inputs, size, generator=generator)
    if isinstance(domain, NearSequences):
        centre, radius = domain.sequences, domain.radius
    else:
        length = min(LENGTH, domain.length)
        centre, radius = torch.zeros(STARTS, length, units_of(parts), dtype=torch.float64), domain.radius
    if not radius:
        return centre
    moves = _into_ball(torch.randn(centre.shape, dtype=torch.float64, generator=generator), outward=True)
    best, reached = moves.clone(), torch.zeros(len(centre), dtype=torch.float64)
    for step in range(STEPS):
        at = (centre + radius * moves).requires_grad_()
        apart = (run(parts, at) - run(effective, at)).norm(dim=-1).amax(dim=-1)
        (gradient,) = torch.autograd.grad(apart.sum(), at)
        higher = apart.detach() > reached
        best[higher], reached[higher] = moves[higher], apart.detach()[higher]
        pace = 0.5 * (1.0 - step / STEPS)
        sizes = gradient.norm(dim=-1, keepdim=True).clamp(min=1e-300)
        moves = _into_ball(moves + pace * gradient / sizes)
    return centre + radius * best


def _into_ball(moves: Tensor, *, outward: bool = False) -> Tensor:
    """Return moves of each token in the unit ball; with `outward`, on its sphere."""
    sizes = moves.norm(dim=-1, keepdim=True)
    # a little within, so that rounding does not leave the ball
    return moves / (sizes if outward else sizes.clamp(min=1.0)) * (1.0 - 1e-12)
