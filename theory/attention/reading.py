"""Attention layers and transformers read as parts, in float64, and checked against the module itself."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from math import sqrt
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.models.char_gpt import HEADS, CharGPT
from theory.attention.maps import LinearMap
from theory.attention.parts import Activate, Affine, Attend, Embed, Head, Normalise, Part, Residual, run, units_of
from theory.target import Matrix

Parts = tuple[Part, ...]


def read_transformer(target: nn.Module, *, causal: bool = False) -> Parts:
    """Return the parts of an attention layer or a transformer in evaluation mode.

    Gains and biases of a layer normalisation go into the linear maps behind it.

    Args:
        target: an `nn.MultiheadAttention` that reads itself, an `nn.TransformerEncoderLayer` or `nn.TransformerEncoder`
            that normalises first, or the `CharGPT` of this package.
        causal: whether a token reads those up to its own alone. A CharGPT always does.

    Raises:
        SupermaskError: it is something else, does not compute what its modules say, or has a weight that is not finite.

    """
    if type(target) not in _READERS:
        known = ", ".join(kind.__name__ for kind in _READERS)
        raise SupermaskError(f"A {type(target).__name__} is not read as a transformer; known are {known}.")
    module = deepcopy(target).cpu().double().eval()
    if not all(bool(tensor.isfinite().all()) for tensor in module.state_dict().values()):
        raise SupermaskError("The target has weights that are NaN or infinite.")
    parts = _READERS[type(target)](module, causal or type(target) is CharGPT)
    _check(target, parts, causal=causal)
    return parts


def run_target(target: nn.Module, x: Tensor, *, causal: bool) -> Tensor:
    """Return what the module itself computes of tokens (batch, T, units), or of ids (batch, T)."""
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if causal else None
    if isinstance(target, CharGPT):
        return target(x)
    if isinstance(target, nn.MultiheadAttention):
        turned = x if target.batch_first else x.transpose(0, 1)
        found: Tensor = target(turned, turned, turned, attn_mask=later, need_weights=False)[0]
        return found if target.batch_first else found.transpose(0, 1)
    layer: Any = target.layers[0] if isinstance(target, nn.TransformerEncoder) else target
    if layer.self_attn.batch_first:
        return target(x, later)
    turned = target(x.transpose(0, 1), later)
    return turned.transpose(0, 1)


@torch.no_grad()
def _check(target: nn.Module, parts: Parts, *, causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    if isinstance(parts[0], Embed):
        size = (4, parts[0].places.inputs)
        x = torch.randint(parts[0].tokens.inputs, size, generator=generator)
    else:
        x = torch.randn(4, 6, units_of(parts), dtype=torch.float64, generator=generator)
    wanted, found = run_target(deepcopy(target).cpu().double().eval(), x, causal=causal), run(parts, x)
    same = wanted.shape == found.shape and float((wanted - found).abs().max()) <= 1e-9 * float(found.abs().max())
    if not same:  # NaN is not the same either
        raise SupermaskError("The target does not compute what its modules say; give plain modules without hooks.")


def _attention(module: nn.MultiheadAttention, causal: bool) -> Parts:
    return (_of_multihead(module, causal, None),)


def _of_multihead(module: nn.MultiheadAttention, causal: bool, norm: nn.LayerNorm | None) -> Attend:
    if not module._qkv_same_embed_dim or module.bias_k is not None or module.add_zero_attn:
        raise SupermaskError(
            "Only attention of a sequence to itself is read: give kdim and vdim as embed_dim, and no add_bias_kv or"
            " add_zero_attn."
        )
    return _attend(module.in_proj_weight, module.in_proj_bias, module.out_proj, module.num_heads, causal, norm)


def _attend(
    weight: Tensor, bias: Tensor | None, out: nn.Linear, heads: int, causal: bool, norm: nn.LayerNorm | None
) -> Attend:
    """Return an attention from the matrix of queries, keys and values, behind a normalisation that is folded in."""
    units = weight.shape[1]
    size = units // heads
    gain, shift = _gain_and_shift(norm, units)
    matrices = _numpy(weight).reshape(3, heads, size, units)
    biases = np.zeros((3, heads, size)) if bias is None else _numpy(bias).reshape(3, heads, size)
    last = _numpy(out.bias) if out.bias is not None else np.zeros(units)
    found = []
    for head in range(heads):
        query, key, value = matrices[:, head]
        b_query, b_key, b_value = biases[:, head]
        into = _numpy(out.weight)[:, head * size : (head + 1) * size]
        found.append(_head(query, key, value, into, b_query, b_key, b_value, gain, shift, 1.0 / sqrt(size)))
    # what attention passes on as it is, all in the first head
    offset = sum((head.value.offset for head in found), last)
    mass = sum((head.value.offset_mass for head in found), np.abs(last))
    return Attend(
        tuple(_moved(head, *each) for head, each in zip(found, _first(offset, mass, heads), strict=True)), causal
    )


def _head(
    query: Matrix, key: Matrix, value: Matrix, into: Matrix, b_query: Matrix, b_key: Matrix, b_value: Matrix,
    gain: Matrix, shift: Matrix, scale: float,
) -> Head:  # fmt: skip
    """Return a head whose tokens are multiplied by a gain and moved by a shift before it."""
    queries = scale * np.vstack([(query * gain).T, query @ shift + b_query])
    queries_mass = scale * np.vstack([np.abs(query * gain).T, np.abs(query) @ np.abs(shift) + np.abs(b_query)])
    keys, nothing = key * gain, np.zeros(len(queries))
    of_bias = queries_mass @ (np.abs(key) @ np.abs(shift) + np.abs(b_key))
    terms = 2 * sum(query.shape) + 2 * sum(key.shape) + 32
    score = LinearMap(queries @ keys, nothing, queries_mass @ np.abs(keys), of_bias, terms)
    read = LinearMap.product([into, value, np.diag(gain)], [(into, value, shift), (into, b_value)])
    return Head(score, read)


def _first(offset: Matrix, mass: Matrix, heads: int) -> list[tuple[Matrix, Matrix]]:
    nothing = np.zeros_like(offset)
    return [(offset, mass), *[(nothing, nothing)] * (heads - 1)]


def _moved(head: Head, offset: Matrix, mass: Matrix) -> Head:
    value = head.value
    return Head(head.score, LinearMap(value.matrix, offset, value.mass, mass, value.terms))


def _affine(layer: nn.Linear, norm: nn.LayerNorm | None = None) -> Affine:
    weight = _numpy(layer.weight)
    gain, shift = _gain_and_shift(norm, weight.shape[1])
    bias = [] if layer.bias is None else [(np.eye(len(weight)), _numpy(layer.bias))]
    offset = [*([(weight, shift)] if shift.any() else []), *bias]
    return Affine(LinearMap.product([weight, np.diag(gain)], offset))


def _encoder_layer(module: nn.TransformerEncoderLayer, causal: bool) -> Parts:
    if not module.norm_first:
        raise SupermaskError("The layer normalises behind its sums; only layers with norm_first=True are read.")
    kind = _activation(module)
    attend = _of_multihead(module.self_attn, causal, module.norm1)
    hidden = (_affine(module.linear1, module.norm2), Activate(kind), _affine(module.linear2))
    return Residual((_normalise(module.norm1), attend)), Residual((_normalise(module.norm2), *hidden))


def _activation(module: nn.TransformerEncoderLayer) -> Any:
    activation: Any = module.activation
    if activation is nn.functional.relu or type(activation) is nn.ReLU:
        return "relu"
    if activation is nn.functional.gelu or (type(activation) is nn.GELU and activation.approximate == "none"):
        return "gelu"
    raise SupermaskError("The layer has an activation that is not read; known are relu and gelu.")


def _encoder(module: nn.TransformerEncoder, causal: bool) -> Parts:
    layers: Any = module.layers
    if module.norm is not None:
        raise SupermaskError("The encoder normalises at its end, behind which no linear map takes the gains; leave it.")
    return tuple(part for layer in layers for part in _encoder_layer(layer, causal))


def _char_gpt(module: CharGPT, causal: bool) -> Parts:
    parts: list[Part] = [Embed(_table(module.tokens), _table(module.places))]
    blocks: Any = module.blocks
    for block in blocks:
        wide, out = block.attended, block.mixed
        attend = _attend(wide.weight, wide.bias, out, HEADS, causal, block.first)
        first, _, last = block.hidden
        hidden = (_affine(first, block.second), Activate("gelu"), _affine(last))
        parts += [Residual((_normalise(block.first), attend)), Residual((_normalise(block.second), *hidden))]
    return (*parts, _normalise(module.norm), _affine(module.head, module.norm))


def _table(embedding: nn.Embedding) -> LinearMap:
    return LinearMap.product([np.ascontiguousarray(_numpy(embedding.weight).T)])


def _normalise(norm: nn.LayerNorm) -> Normalise:
    return Normalise(norm.normalized_shape[0], norm.eps)


def _gain_and_shift(norm: nn.LayerNorm | None, units: int) -> tuple[Matrix, Matrix]:
    gain = np.ones(units) if norm is None or norm.weight is None else _numpy(norm.weight)
    shift = np.zeros(units) if norm is None or norm.bias is None else _numpy(norm.bias)
    return gain, shift


def _numpy(tensor: Tensor) -> Matrix:
    found: Matrix = tensor.detach().numpy()
    return found


_READERS: Mapping[type[nn.Module], Callable[[Any, bool], Parts]] = MappingProxyType(
    {
        nn.MultiheadAttention: _attention,
        nn.TransformerEncoderLayer: _encoder_layer,
        nn.TransformerEncoder: _encoder,
        CharGPT: _char_gpt,
    }
)
