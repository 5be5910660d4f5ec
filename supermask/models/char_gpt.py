"""A small language model over characters, or over any other tokens."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from supermask.models.shape import check_width, scaled

HEADS = 4


class CharGPT(nn.Module):
    """A transformer that predicts the next token: pre-norm blocks as in GPT-2 (Radford et al. 2019, section 2.3).

    Token ids int64 (batch, T), T at most the context, to logits (batch, T, vocabulary); those of position t depend on
    the tokens up to t alone. It takes no images, so that `models.build` does not list it.

    Args:
        vocabulary: how many tokens there are.
        context: positions at most.
        units: numbers at each position, a multiple of 4, which is the number of heads.
        layers: blocks.

    """

    def __init__(self, vocabulary: int, context: int, *, units: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, units), nn.Embedding(context, units)
        self.blocks = nn.Sequential(*(_Block(units) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(units), nn.Linear(units, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits of the token after each position."""
        places = torch.arange(ids.shape[1], device=ids.device)
        logits: Tensor = self.head(self.norm(self.blocks(self.tokens(ids) + self.places(places))))
        return logits


class _Block(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(units), nn.LayerNorm(units)
        self.attended, self.mixed = nn.Linear(units, 3 * units), nn.Linear(units, units)
        self.hidden = nn.Sequential(nn.Linear(units, 4 * units), nn.GELU(), nn.Linear(4 * units, units))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = rearrange(
            self.attended(self.first(x)), "n t (three h d) -> three n h t d", three=3, h=HEADS
        )
        found = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mixed(rearrange(found, "n h t d -> n t (h d)"))
        return x + self.hidden(self.second(x))


def small_char_gpt(*, vocabulary: int, context: int, width: float = 1.0) -> CharGPT:
    """Return the network of two blocks and 64 numbers at each position, times the width."""
    check_width(width)
    return CharGPT(vocabulary, context, units=HEADS * scaled(16, width))
