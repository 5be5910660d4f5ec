"""Signed supermasks: each weight is kept, kept with its sign flipped, or pruned.

Koster, Grothe, Rettinger, "Signing the supermask: keep, hide, invert", ICLR 2022.
"""

from collections.abc import Mapping
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Budget, Scope, checked_density, named_scope
from supermask.masking.selection import Selection
from supermask.masking.transformed import Treated
from supermask.parameters.parameters import Slot
from supermask.random.distributions import Distribution, XavierUniform
from supermask.random.transform import Treatment
from supermask.search.base import Choices, Search, drawn, refuse_nan
from supermask.versions import describe

THRESHOLD = 0.01
"""The default of the authors' layers (`tanh_th`)."""


class SignedSupermask(Search):
    """A ternary mask sign(s) over frozen random weights where |s| is large; the gradient goes straight through to s.

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        density: fraction of the prunable weights that is kept, exactly: the largest |s|. None keeps |s| > threshold,
            as published; the density is then an outcome.
        seed: of the random weights and of the first scores.
        threshold: of |s|, where no density is given.
        scope: what competes for the kept weights, where a density is given; see `EdgePopup`.
        scaled: multiply the frozen weights by 1/sqrt(density), where one is given.
        scores: distribution of the first scores (Glorot uniform, as the authors' files have it).
        **choices: see `EdgePopup`. The paper's weights are signed constants.

    Raises:
        SupermaskError: as `EdgePopup`.

    """

    name: ClassVar[str] = "signed"

    def __init__(
        self,
        model: nn.Module,
        *,
        density: float | None = None,
        seed: int = 0,
        threshold: float = THRESHOLD,
        scope: str | Scope = "layer",
        scaled: bool = True,
        scores: Distribution = XavierUniform(),  # noqa: B008  frozen
        **choices: Unpack[Choices],
    ) -> None:
        if not threshold >= 0.0:
            raise SupermaskError(f"threshold={threshold} is out of range; |score| is compared with it.")
        self.density = None if density is None else checked_density(density)
        self.threshold, self._scores = threshold, scores
        self.budget = Budget(named_scope(scope))
        self._selection = Selection(signed=False)
        chosen = {"threshold": threshold} if density is None else {"density": density, "scaled": scaled}
        options = {**chosen, "scope": describe(self.budget.scope), "scores": scores.describe()}
        super().__init__(
            model,
            seed=seed,
            density=1.0 if self.density is None else self.density,
            budget=self.budget,
            scaled=scaled,
            options=options,
            **choices,
        )

    def ranking(self) -> Mapping[str, Tensor]:
        """Return the magnitudes of the scores."""
        return {name: score.detach().abs() for name, score in self.scores().items()}

    def treatments(self) -> dict[str, Treatment]:
        """Return the signs of the kept weights."""
        return {name: layer.treatment() for name, layer in self._layers.items() if isinstance(layer, Treated)}

    def _first_scores(self, slot: Slot) -> Tensor:
        return drawn(slot, self._scores, self.seed)

    def _layer(self, slot: Slot) -> Treated:
        return Treated(slot.parameter.detach().clone(), signed=True)

    @torch.no_grad()
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        masks = {name: layer.mask for name, layer in self._layers.items()}
        if self.density is None:
            refuse_nan(scores)
        else:
            self._selection.select(self.budget.pools(self.network.shapes, self.density), scores, masks)
        for name, layer in self._layers.items():
            assert isinstance(layer, Treated)
            if self.density is None:
                layer.mask.copy_(scores[name].abs() > self.threshold)
            layer.factors.copy_(torch.where(scores[name] < 0.0, -1, 1))
            layer.refresh()

    def _check(self) -> None:
        self._selection.check()
