"""The learned supermask: each weight is kept with a chance of its own, and the chances are trained.

Zhou, Lan, Liu, Yosinski, "Deconstructing lottery tickets: zeros, signs, and the supermask", NeurIPS 2019, section 5.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.transformed import Sampled
from supermask.parameters.parameters import Slot
from supermask.random.distributions import SignOf, XavierNormal
from supermask.random.stream import philox
from supermask.random.transform import Treatment
from supermask.search.base import Choices, Search, refuse_nan

Evaluated = Literal["rounded", "sampled"]


class LearnedSupermask(Search):
    """A supermask m ~ Bernoulli(sigmoid(s)) over frozen random weights, with a straight-through gradient to s.

    The density is an outcome: no number of weights is promised. In training every optimizer step has a sample of its
    own, drawn from (seed, parameter name, step).

    Args:
        model: freshly built; its weights are replaced by random ones and parametrized, in place.
        seed: of the random weights and of the samples.
        logit: that all scores start from; 0 keeps half of the weights (the authors' code).
        rescaled: dynamic weight rescaling: multiply the weights of a layer by n / (number kept) in every step
            (section 5.2).
        evaluated: the mask in evaluation, and of the ticket: "sampled" is the sample of the present step, as the
            paper's figures are; "rounded" keeps what has a chance of one half or more, which does worse as long as
            most chances are near one half.
        **choices: see `EdgePopup`; here the weights are signed constants with the deviation of Glorot normal ones,
            unless given otherwise.

    Raises:
        SupermaskError: as `Search`, or an option is out of range.

    """

    name: ClassVar[str] = "learned"

    def __init__(
        self,
        model: nn.Module,
        *,
        seed: int = 0,
        logit: float = 0.0,
        rescaled: bool = True,
        evaluated: Evaluated = "sampled",
        **choices: Unpack[Choices],
    ) -> None:
        if evaluated not in ("rounded", "sampled"):
            raise SupermaskError(f"evaluated={evaluated!r} is unknown; known are rounded, sampled.")
        if not abs(logit) < 30.0:
            raise SupermaskError(f"logit={logit} is out of range; sigmoid(logit) is the chance of a weight to be kept.")
        self.logit, self.rescaled, self.evaluated = logit, rescaled, evaluated
        choices.setdefault("weights", SignOf(XavierNormal()))
        options = {"logit": logit, "rescaled": rescaled, "evaluated": evaluated}
        super().__init__(model, seed=seed, options=options, **choices)

    def ranking(self) -> Mapping[str, Tensor] | None:
        """Return the scores if the mask rounds their chances; a sample is ranked by nothing."""
        return self.scores() if self.evaluated == "rounded" else None

    def treatments(self) -> dict[str, Treatment]:
        """Return the gains of the layers, where weights are rescaled."""
        layers = self._layers if self.rescaled else {}
        return {name: layer.treatment() for name, layer in layers.items() if isinstance(layer, Sampled)}

    def _first_scores(self, slot: Slot) -> Tensor:
        return torch.full(slot.shape, self.logit)

    def _layer(self, slot: Slot) -> Sampled:
        return Sampled(slot.parameter.detach().clone())

    @torch.no_grad()
    def _select(self, scores: Mapping[str, Tensor]) -> None:
        refuse_nan(scores)
        for name, layer in self._layers.items():
            assert isinstance(layer, Sampled)
            score = scores[name]
            layer.sample.copy_(self._draw(name, score) < torch.sigmoid(score))
            # a chance of exactly one half is rounded up, so that the start is not an empty network
            layer.mask.copy_(score >= 0.0 if self.evaluated == "rounded" else layer.sample)
            if self.rescaled:
                layer.gain.fill_(_gain(layer.mask))
                layer.sample_gain.fill_(_gain(layer.sample))
            layer.refresh()

    def _draw(self, name: str, score: Tensor) -> Tensor:
        """Return uniform numbers of the score's shape; they depend on nothing but seed, name and step."""
        key = int(philox(self.seed, "sample", name, self.steps).random_raw()) >> 1
        generator = torch.Generator(score.device).manual_seed(key)
        return torch.rand(score.shape, generator=generator, device=score.device)


def _gain(mask: Tensor) -> float:
    return mask.numel() / max(1, int(mask.sum()))
