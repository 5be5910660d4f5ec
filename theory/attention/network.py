"""The random transformer that is pruned: ordinary modules, wider, each linear map of the target a diamond inside.

A map of n inputs is met by two random layers without anything between them: each input, and the offset, has a block of
hidden units that read it alone, the first hop; the second hop is private to each output (Pensia et al. 2020, linear
structure). In an attention the two layers are there already (Otsuka et al. 2025): keys are the first hop of the scores
and queries the second, values the first hop of what is read and the output matrix the second. So heads become wider,
and the attention no deeper.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from supermask.errors import SupermaskError
from supermask.random.distributions import Fans, Uniform
from supermask.random.weights import RandomWeight
from theory.attention.maps import LinearMap
from theory.attention.parts import ACTIVATIONS, Activate, Affine, Attend, Embed, Normalise, Part, Residual


class WideAttention(nn.Module):
    """Multi-head self-attention with heads of any size: tokens (batch, T, units) to the same.

    Queries and values have biases, which are random and pruned as weights are; scores are not divided by anything.

    Args:
        units: numbers at each position.
        heads: of the attention.
        keys: units of a head's queries and keys.
        values: units of a head's values.
        causal: whether a token reads those up to its own alone.

    """

    def __init__(self, units: int, heads: int, keys: int, values: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key = nn.Linear(units, heads * keys), nn.Linear(units, heads * keys, bias=False)
        self.value, self.output = nn.Linear(units, heads * values), nn.Linear(heads * values, units, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each token reads.

        Raises:
            SupermaskError: the tokens are no sequences of a batch.

        """
        if x.dim() != 3:  # with one head, others would be read as sequences of something else
            raise SupermaskError(f"The network takes tokens of shape (batch, T, units), not {tuple(x.shape)}.")
        query, key, value = (each(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in
                             (self.query, self.key, self.value))  # fmt: skip
        found = scaled_dot_product_attention(query, key, value, is_causal=self.causal, scale=1.0)
        read: Tensor = self.output(found.transpose(1, 2).flatten(2))
        return read


class WideEmbedding(nn.Module):
    """Token ids (batch, T) to tokens (batch, T, units), through wider tables and a linear layer for each.

    Args:
        vocabulary: tokens.
        context: positions.
        units: numbers at each position.
        width: hidden units for each token and each position.

    """

    def __init__(self, vocabulary: int, context: int, units: int, width: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, vocabulary * width), nn.Embedding(context, context * width)
        self.of_token = nn.Linear(vocabulary * width, units, bias=False)
        self.of_place = nn.Linear(context * width, units, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the tokens.

        Raises:
            SupermaskError: the ids are no sequences of a batch, or too long ones.

        """
        context = self.places.num_embeddings
        if ids.dim() != 2 or ids.shape[1] > context:
            raise SupermaskError(
                f"The network takes ids of shape (batch, T) with T at most {context}, not {tuple(ids.shape)}."
            )
        places = torch.arange(ids.shape[1], device=ids.device)
        found: Tensor = self.of_token(self.tokens(ids)) + self.of_place(self.places(places))
        return found


class Sum(nn.Sequential):
    """x + what its modules make of x."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        found: Tensor = x + super().forward(x)
        return found


@dataclass(frozen=True)
class View:
    """A part of a parameter as a matrix: some rows and columns, turned where its rows are not those that are meant."""

    name: str
    rows: slice = field(default_factory=lambda: slice(None))
    columns: slice = field(default_factory=lambda: slice(None))
    turned: bool = False

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return it, on the memory of the tensor; a vector is one column."""
        tensor = tensors[self.name]
        found = (tensor[:, None] if tensor.dim() == 1 else tensor)[self.rows, self.columns]
        return found.T if self.turned else found


@dataclass(frozen=True)
class Diamond:
    """Two hops that stand for a linear map.

    Attributes:
        first: (hidden, inputs), the first hop.
        bias: (hidden, 1), what stands before the block of the offset; None where there is no such block.
        seconds: (outputs, hidden) together, the second hop.
        width: hidden units of a block.

    """

    first: View
    bias: View | None
    seconds: tuple[View, ...]
    width: int

    def hop(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the first hop with a last column for the offset, float64 (hidden, inputs + 1)."""
        first = self.first.of(tensors)
        last = torch.zeros_like(first[:, :1]) if self.bias is None else self.bias.of(tensors)
        return torch.cat([first, last], dim=1).double()

    def second(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the second hop, float64 (outputs, hidden)."""
        return torch.cat([view.of(tensors) for view in self.seconds]).double()

    def computes(self, tensors: Mapping[str, Tensor]) -> LinearMap:
        """Return the map that masked hops are."""
        hop, second = self.hop(tensors).numpy(), self.second(tensors).numpy()
        return LinearMap.product([second, np.ascontiguousarray(hop[:, :-1])], [(second, hop[:, -1])])


@dataclass(frozen=True)
class Plan:
    """The random network of a target: its module, its random tensors, and where the target's maps are in it.

    Attributes:
        network: float64, without its weights.
        weights: what the tensors are made of, by parameter name.
        diamonds: one for each map, in the order of `maps_of`.

    """

    network: nn.Sequential
    weights: Mapping[str, RandomWeight]
    diamonds: tuple[Diamond, ...]


def plan_network(parts: Sequence[Part], widths: Iterator[int]) -> Plan:
    """Return the random network for some parts, with so many hidden units per input for each of their maps."""
    weights: dict[str, RandomWeight] = {}
    diamonds: list[Diamond] = []
    with torch.device("meta"):  # the ticket brings the weights
        network = nn.Sequential(*_modules(parts, "", widths, weights, diamonds)).double()
    empty = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in network.state_dict().items()}
    network.load_state_dict(empty, assign=True)
    return Plan(network.eval(), weights, tuple(diamonds))


def _modules(
    parts: Sequence[Part], before: str, widths: Iterator[int],
    weights: dict[str, RandomWeight], diamonds: list[Diamond],
) -> Iterator[nn.Module]:  # fmt: skip
    for place, part in enumerate(parts):
        name = f"{before}{place}."
        match part:
            case Embed():
                width = max(next(widths), next(widths))
                yield _embedding(part, name, width, weights, diamonds)
            case Normalise():
                yield nn.LayerNorm(part.units, part.eps, elementwise_affine=False)
            case Attend():
                each = [(next(widths), next(widths)) for _ in part.heads]
                yield _attention(part, name, max(keys for keys, _ in each), max(values for _, values in each),
                                 weights, diamonds)  # fmt: skip
            case Affine():
                yield _pair(part.map, name, next(widths), weights, diamonds)
            case Activate():
                yield ACTIVATIONS[part.kind]()
            case Residual():
                yield Sum(*_modules(part.parts, name, widths, weights, diamonds))


def _attention(
    part: Attend, name: str, keys: int, values: int, weights: dict[str, RandomWeight], diamonds: list[Diamond]
) -> nn.Module:
    heads, units = len(part.heads), part.heads[0].value.inputs
    hidden, read = units * keys, (units + 1) * values
    scores, bias = _scale(head.score.matrix[:-1] for head in part.heads), _scale(h.score.matrix[-1] for h in part.heads)
    output = _scale(each for head in part.heads for each in (head.value.matrix, head.value.offset))
    into, out = Fans(units, heads * hidden), Fans(heads * read, units)
    weights[f"{name}query.weight"] = RandomWeight((heads * hidden, units), Uniform(1.0), into, scores)
    weights[f"{name}query.bias"] = RandomWeight((heads * hidden,), Uniform(1.0), into, bias)
    weights[f"{name}key.weight"] = RandomWeight((heads * hidden, units), Uniform(1.0), into)
    weights[f"{name}value.weight"] = RandomWeight((heads * read, units), Uniform(1.0), Fans(units, heads * read))
    weights[f"{name}value.bias"] = RandomWeight((heads * read,), Uniform(1.0), Fans(units, heads * read))
    weights[f"{name}output.weight"] = RandomWeight((units, heads * read), Uniform(1.0), out, output)
    for head in range(heads):
        rows, of_values = slice(head * hidden, (head + 1) * hidden), slice(head * read, (head + 1) * read)
        queries = (View(f"{name}query.weight", rows, turned=True), View(f"{name}query.bias", rows, turned=True))
        diamonds.append(Diamond(View(f"{name}key.weight", rows), None, queries, keys))
        first, constant = View(f"{name}value.weight", of_values), View(f"{name}value.bias", of_values)
        diamonds.append(Diamond(first, constant, (View(f"{name}output.weight", columns=of_values),), values))
    return WideAttention(units, heads, hidden, read, causal=part.causal)


def _pair(
    wanted: LinearMap, name: str, width: int, weights: dict[str, RandomWeight], diamonds: list[Diamond]
) -> nn.Module:
    hidden = (wanted.inputs + 1) * width
    into, out = Fans(wanted.inputs, hidden), Fans(hidden, wanted.outputs)
    weights[f"{name}0.weight"] = RandomWeight((hidden, wanted.inputs), Uniform(1.0), into)
    weights[f"{name}0.bias"] = RandomWeight((hidden,), Uniform(1.0), into)
    scale = _scale((wanted.matrix, wanted.offset))
    weights[f"{name}1.weight"] = RandomWeight((wanted.outputs, hidden), Uniform(1.0), out, scale)
    diamonds.append(Diamond(View(f"{name}0.weight"), View(f"{name}0.bias"), (View(f"{name}1.weight"),), width))
    return nn.Sequential(nn.Linear(wanted.inputs, hidden), nn.Linear(hidden, wanted.outputs, bias=False))


def _embedding(
    part: Embed, name: str, width: int, weights: dict[str, RandomWeight], diamonds: list[Diamond]
) -> nn.Module:
    for table, out, wanted in (("tokens", "of_token", part.tokens), ("places", "of_place", part.places)):
        hidden = wanted.inputs * width
        weights[f"{name}{table}.weight"] = RandomWeight((wanted.inputs, hidden), Uniform(1.0), Fans(1, hidden))
        fans, scale = Fans(hidden, wanted.outputs), _scale((wanted.matrix,))
        weights[f"{name}{out}.weight"] = RandomWeight((wanted.outputs, hidden), Uniform(1.0), fans, scale)
        first = View(f"{name}{table}.weight", turned=True)
        diamonds.append(Diamond(first, None, (View(f"{name}{out}.weight"),), width))
    return WideEmbedding(part.tokens.inputs, part.places.inputs, part.tokens.outputs, width)


def _scale(matrices: Iterator[np.ndarray] | Sequence[np.ndarray]) -> float:
    """Return the scale of a second hop, twice the largest weight that it meets, which Lueker's theorem asks for."""
    largest = max(float(np.abs(each).max(initial=0.0)) for each in matrices)
    return 2.0 * max(largest, 1e-30)  # not 0, and far above where float32 ends
