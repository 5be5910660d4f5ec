"""Mask criteria: which weights of a layer are kept, by where they began and where training left them.

Zhou et al. 2019, "mask criteria"; where that leaves something open, the authors' get_weight_init.py
(github.com/uber-research/deconstructing-lottery-tickets).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from supermask.random.keyed import keyed_permutation

Sign = Literal["any", "same", "different"]
CriterionName = Literal[
    "large_final",
    "small_final",
    "large_init",
    "small_init",
    "large_init_large_final",
    "small_init_small_final",
    "magnitude_increase",
    "movement",
    "random",
]


class ScoredLayer(NamedTuple):
    """The weights of one layer, float64 and of one shape.

    Attributes:
        initial: w_i, before training.
        final: w_f, after it.
        lot: a random order of the weights, from 0 on.

    """

    initial: Tensor
    final: Tensor
    lot: Tensor


@dataclass(frozen=True)
class Criterion:
    """A score for each weight; the largest are kept.

    Attributes:
        formula: of the scores, float64.
        excluded: stands for the score of a weight whose sign is not the one that is asked for, see `scores`.

    """

    formula: Callable[[ScoredLayer], Tensor]
    excluded: float = -1e-300  # below zero, and above every other negative score of float32 weights

    def scores(self, layer: ScoredLayer, sign: Sign) -> Tensor:
        """Return the scores of a layer, float64 of its shape.

        With a sign asked for, weights that training left with another one than it ("same") or with the one that they
        had ("different") score zero, in random order among themselves, as in the authors' code. Where there are too few
        others, they are what makes up the number: the count that is kept is always exact. The authors' code has this
        for large_final, whose paper's formula is max(0, w_i w_f / |w_i|), and for magnitude_increase, where zero is
        above the weights that shrank. The criteria whose scores are negative throughout would have them first, so that
        there they are last.
        """
        scores = self.formula(layer)
        if sign == "any":
            return scores
        same = torch.sign(layer.initial) == torch.sign(layer.final)
        made_up = self.excluded * (1.0 + layer.lot / max(1, layer.lot.numel()))
        return torch.where(same if sign == "same" else ~same, scores, made_up)


_LAST = -1e300  # below every score of float32 weights

CRITERIA: Mapping[CriterionName, Criterion] = {
    "large_final": Criterion(lambda layer: layer.final.abs()),
    "small_final": Criterion(lambda layer: -layer.final.abs(), _LAST),
    "large_init": Criterion(lambda layer: layer.initial.abs()),
    "small_init": Criterion(lambda layer: -layer.initial.abs(), _LAST),
    "large_init_large_final": Criterion(
        lambda layer: torch.minimum(_standing(layer.final.abs()), _standing(layer.initial.abs()))
    ),
    "small_init_small_final": Criterion(
        lambda layer: torch.minimum(_standing(-layer.final.abs()), _standing(-layer.initial.abs()))
    ),
    "magnitude_increase": Criterion(lambda layer: layer.final.abs() - layer.initial.abs()),
    "movement": Criterion(lambda layer: (layer.final - layer.initial).abs()),
    "random": Criterion(lambda layer: layer.lot.clone()),
}
"""Every criterion by its name in the paper.

The paper's min(alpha |w_f|, |w_i|) and -max(alpha |w_f|, |w_i|) have an alpha in each layer that makes up for the
growth of weights. The authors' code has no alpha: it prunes below the same percentile of |w_f| and of |w_i|, which is
alpha = quantile of |w_i| / quantile of |w_f| at whatever density is asked for. Here that is the lower of the two places
that a weight has in its layer, by |w_f| and by |w_i|.
"""


def layer_scores(criterion: CriterionName, sign: Sign, initial: Tensor, final: Tensor, seed: int, name: str) -> Tensor:
    """Return the scores of a parameter's weights, float64 of its shape and on its device.

    Args:
        criterion: a name in `CRITERIA`.
        sign: keep weights whatever their sign, those that kept it, or those that changed it; see `Criterion.scores`.
        initial: the weights before training.
        final: the weights after training, of the same shape and on the same device.
        seed: of the random order.
        name: of the parameter.

    """
    order = torch.from_numpy(keyed_permutation(initial.numel(), seed, "heuristic", name))
    lot = order.double().reshape(initial.shape).to(initial.device)
    return CRITERIA[criterion].scores(ScoredLayer(initial.double(), final.double(), lot), sign)


def _standing(values: Tensor) -> Tensor:
    """Return how many of the values are smaller than each, float64."""
    flat = values.reshape(-1)
    return torch.searchsorted(flat.sort().values, flat).double().reshape(values.shape)
