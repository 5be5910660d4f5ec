"""A transformer as parts: what is linear in it, as maps that a random network has to meet, and what stands between.

A head is two maps. Its scores are a bilinear form of the query's token and the key's, (x_t, 1) A x_u, with A the
product of its query and key matrices over the root of its size; a bias of the keys adds the same to all scores of a
query, which the softmax does not see. What it reads is B x_u, with B the product of its output and value matrices.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from theory.attention.maps import LinearMap

Activation = Literal["relu", "gelu"]
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True, eq=False)
class Embed:
    """Token ids (batch, T) to the sum of what stands for a token and for its place.

    Attributes:
        tokens: of the one-hot vector of a token.
        places: of that of a position.

    """

    tokens: LinearMap
    places: LinearMap


@dataclass(frozen=True)
class Normalise:
    """A layer normalisation without gains: (x - mean) / root of (variance + eps)."""

    units: int
    eps: float


@dataclass(frozen=True, eq=False)
class Head:
    """One head: scores (x_t, 1) A x_u, and what is read of a token.

    Attributes:
        score: A, of `units + 1` outputs, without an offset; its offset_mass is that of the bias of the keys.
        value: B, and an offset, which attention passes on as it is, because its weights add up to 1.

    """

    score: LinearMap
    value: LinearMap


@dataclass(frozen=True, eq=False)
class Attend:
    """A multi-head self-attention; with `causal`, a token reads those up to its own."""

    heads: tuple[Head, ...]
    causal: bool


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear layer on each token."""

    map: LinearMap


@dataclass(frozen=True)
class Activate:
    """An activation of each entry."""

    kind: Activation


@dataclass(frozen=True, eq=False)
class Residual:
    """x + what its parts make of x."""

    parts: "tuple[Part, ...]"


Part: TypeAlias = Embed | Normalise | Attend | Affine | Activate | Residual


def units_of(parts: Sequence[Part]) -> int:
    """Return how many numbers a token has where it enters."""
    first = parts[0]
    match first:
        case Embed():
            return first.tokens.outputs
        case Normalise():
            return first.units
        case Attend():
            return first.heads[0].value.inputs
        case Affine():
            return first.map.inputs
        case Residual():
            return units_of(first.parts)
        case Activate():
            return units_of(parts[1:])


def maps_of(parts: Sequence[Part]) -> Iterator[LinearMap]:
    """Yield all linear maps, in their order."""
    for part in parts:
        match part:
            case Embed():
                yield from (part.tokens, part.places)
            case Attend():
                for head in part.heads:
                    yield from (head.score, head.value)
            case Affine():
                yield part.map
            case Residual():
                yield from maps_of(part.parts)


def with_maps(parts: Sequence[Part], maps: Iterator[LinearMap]) -> tuple[Part, ...]:
    """Return the same parts with other maps, taken in the order of `maps_of`."""
    return tuple(_with_maps(part, maps) for part in parts)


def _with_maps(part: Part, maps: Iterator[LinearMap]) -> Part:
    match part:
        case Embed():
            return Embed(next(maps), next(maps))
        case Attend():
            return replace(part, heads=tuple(Head(next(maps), next(maps)) for _ in part.heads))
        case Affine():
            return Affine(next(maps))
        case Residual():
            return Residual(with_maps(part.parts, maps))
        case Normalise() | Activate():
            return part


def run(parts: Sequence[Part], x: Tensor) -> Tensor:
    """Return what the parts compute of tokens (batch, T, units), float64; or of ids (batch, T), where they embed."""
    for part in parts:
        match part:
            case Embed():
                x = embedded(part, x)
            case Normalise():
                x = functional.layer_norm(x, (part.units,), eps=part.eps)
            case Attend():
                x = sum(weights(part, head, x) @ head.value(x) for head in part.heads)  # type: ignore[assignment]  # of at least one head
            case Affine():
                x = part.map(x)
            case Activate():
                x = activated(part, x)
            case Residual():
                x = x + run(part.parts, x)
    return x


def embedded(part: Embed, ids: Tensor) -> Tensor:
    """Return the tokens that stand for ids (batch, T)."""
    tokens, places = (torch.from_numpy(each.matrix).T for each in (part.tokens, part.places))
    return tokens[ids] + places[: ids.shape[1]]


def activated(part: Activate, x: Tensor) -> Tensor:
    """Return the activation of each entry."""
    return x.relu() if part.kind == "relu" else functional.gelu(x)


def weights(part: Attend, head: Head, x: Tensor) -> Tensor:
    """Return the weights of a head, (batch, T, T)."""
    return softmax(scores(head, x), causal=part.causal)


def scores(head: Head, x: Tensor) -> Tensor:
    """Return the scores of a head, (batch, T, T): of each query, over keys."""
    return with_one(x) @ head.score(x).transpose(-1, -2)


def softmax(found: Tensor, *, causal: bool) -> Tensor:
    """Return the weights of scores; those of later tokens are 0 where it is causal."""
    if causal:
        later = torch.ones(found.shape[-2:], dtype=torch.bool).triu(1)
        found = found.masked_fill(later, -torch.inf)
    return found.softmax(dim=-1)


def with_one(x: Tensor) -> Tensor:
    """Return tokens with a 1 behind each, which stands for the bias of the queries."""
    return functional.pad(x, (0, 1), value=1.0)
