"""A small transformer whose matrices stand apart, for tokens and for whole texts, with the scale of random keys."""

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from supermask.models.char_gpt import HEADS
from supermask.models.shape import check_classes, check_width, scaled


class TextTransformer(nn.Module):
    """Pre-norm blocks as in GPT-2 (Radford et al. 2019, section 2.3) with queries, keys and values in matrices apart.

    Token ids int64 (batch, T), T at most the context, to logits (batch, T, outputs), or (batch, outputs) where the
    positions are pooled. A position reads those up to itself alone, so that a network of one head has the same trunk
    as that of the other. Apart, each matrix has a mask and a density of its own.

    With `wide_keys`, queries and keys are multiplied by n^(1/4), with n numbers in a key of one head: the same as
    weights and biases drawn so much wider. Otsuka et al. 2025 (arXiv:2511.04217) draw those of queries and keys from
    [-n^(1/4), n^(1/4)] and all others from [-1, 1], so that the products that attention divides by n^(1/2) stay as
    large as they are without a division.

    Args:
        vocabulary: how many tokens there are.
        context: positions at most.
        outputs: logits at each position, or of the whole text.
        units: numbers at each position, a multiple of 4, which is the number of heads.
        layers: blocks.
        pooled: the head reads the mean of the positions.
        wide_keys: multiply queries and keys.

    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        outputs: int,
        *,
        units: int = 64,
        layers: int = 2,
        pooled: bool = False,
        wide_keys: bool = False,
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.tokens, self.places = nn.Embedding(vocabulary, units), nn.Embedding(context, units)
        self.blocks = nn.Sequential(*(_Block(units, wide_keys) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(units), nn.Linear(units, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits of each position, or of the text."""
        places = torch.arange(ids.shape[1], device=ids.device)
        hidden = self.norm(self.blocks(self.tokens(ids) + self.places(places)))
        logits: Tensor = self.head(reduce(hidden, "n t d -> n d", "mean") if self.pooled else hidden)
        return logits


class _Block(nn.Module):
    def __init__(self, units: int, wide_keys: bool) -> None:
        super().__init__()
        self.factor = (units // HEADS) ** 0.25 if wide_keys else 1.0
        self.first, self.second = nn.LayerNorm(units), nn.LayerNorm(units)
        self.query, self.key = nn.Linear(units, units), nn.Linear(units, units)
        self.value, self.output = nn.Linear(units, units), nn.Linear(units, units)
        self.hidden = nn.Sequential(nn.Linear(units, 4 * units), nn.GELU(), nn.Linear(4 * units, units))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.first(x)
        query, key, value = (
            rearrange(part(seen), "n t (h d) -> n h t d", h=HEADS) for part in (self.query, self.key, self.value)
        )
        found = scaled_dot_product_attention(self.factor * query, self.factor * key, value, is_causal=True)
        x = x + self.output(rearrange(found, "n h t d -> n t (h d)"))
        return x + self.hidden(self.second(x))


def small_text_transformer(
    *,
    vocabulary: int,
    context: int,
    classes: int,
    width: float = 1.0,
    pooled: bool = False,
    wide_keys: bool = False,
) -> TextTransformer:
    """Return the network of two blocks and 64 numbers at each position, times the width."""
    check_width(width)
    check_classes(classes)
    units = HEADS * scaled(16, width)
    return TextTransformer(vocabulary, context, classes, units=units, pooled=pooled, wide_keys=wide_keys)
