"""Edge-popup without a backward pass: the gradients of the scores come from forward passes with noise.

The rule is that of Ramanujan et al. 2020, the gradients are those of `supermask.search.estimator`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.masking.kernels import straight_through
from supermask.search.edge_popup import RankedRule
from supermask.search.estimator import Estimator, Noise
from supermask.search.passes import Passes
from supermask.search.search import Search
from supermask.search.state import SearchState
from supermask.training.processes import ALONE, Processes
from supermask.training.state import Outcome

MOST_DIRECTIONS = 1_000_000
"""Noisy passes of each layer for one batch: with as many as a layer has units, the gradients are exact."""


@dataclass(frozen=True)
class PassCount:
    """What a run of the search computed, its evaluations left out.

    Attributes:
        forward_passes: examples x passes, each counted as a whole one, though most start behind the first layer.
        multiply_adds: that the layers really did.

    """

    forward_passes: int
    multiply_adds: int


@final
@dataclass(frozen=True, kw_only=True)
class NodePerturbationRule(RankedRule):
    """Edge-popup by forward passes alone: gradients are estimated from noise on the layers' outputs.

    For each batch the network is run once as it is, and `directions` times for each layer but the last with noise on
    some of its units. The training loop uses these estimates; a loop of one's own calls `search.estimate(images,
    labels)` in place of `loss.backward()`. With `loss.backward()` this is plain edge-popup.

    Attributes:
        directions: noisy forward passes for each layer but the last; more make the gradients less noisy.
        noise: on a unit, over the root mean square of its layer's outputs; the bias of the estimates falls with it.
        feedback_rate: at which the search learns to predict what noise does, which takes noise off the estimates; 0
            is plain node perturbation.

    """

    name: ClassVar[str] = "node_perturbation"
    details_kind: ClassVar[type | None] = PassCount
    directions: int = 8
    noise: float = 0.01  # small, so that few units cross the kink of a ReLU; float32 still has 4 digits of the change
    feedback_rate: float = 0.02  # an average over the last 50 batches

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.directions <= MOST_DIRECTIONS:
            raise SupermaskError(
                f"directions={self.directions} is out of range; each layer needs from 1 to {MOST_DIRECTIONS:,} passes."
            )
        if not 0.0 < self.noise < 1.0 or not 0.0 <= self.feedback_rate < 1.0:
            raise SupermaskError(
                f"noise={self.noise}, feedback_rate={self.feedback_rate} do not fit: the first is between 0 and 1, the"
                " second in [0, 1)."
            )

    def carried(self, state: SearchState) -> Estimator:
        """Return what estimates the gradients: it counts passes and learns feedback."""
        return Estimator(state.seed, Noise(self.directions, self.noise, self.feedback_rate))

    def details(self, outcome: Outcome) -> PassCount:
        """Return how many forward passes a run made."""
        counted = outcome.last["estimator"]
        return PassCount(counted["forward_passes"], counted["multiply_adds"])


class NodePerturbation(Search, rule=NodePerturbationRule):
    """Edge-popup without a backward pass, for networks of linear layers and 2d convolutions with a cross-entropy loss.

    Its keywords are the options of `NodePerturbationRule`; see `Search` for what it can do.
    """

    rule: NodePerturbationRule

    @property
    def forward_passes(self) -> int:
        """Examples x forward passes of all estimates so far, each pass counted as a whole one."""
        return self._estimator.forward_passes

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that the layers really did in these passes: what lies in front of the noise is not repeated."""
        return self._estimator.multiply_adds

    @torch.no_grad()
    def estimate(self, images: Tensor, labels: Tensor, processes: Processes = ALONE) -> Tensor:
        """Add the estimated gradients of the mean cross-entropy to those of the parameters; return the loss.

        It takes the place of `loss.backward()`, and records no graph. The noise is that of the present step.

        Args:
            images: (batch, ...).
            labels: int64 (batch,).
            processes: that share the batch; all of them get its gradients.

        Raises:
            SupermaskError: the network mixes the examples of a batch or draws random numbers, or a parameter is not one
                of a linear layer or a 2d convolution that is called once.

        """
        slots = {**self.network.masked, **self.network.learned}
        passes = Passes(self.model, images)
        loss, gradients = self._estimator.gradients(passes, labels, slots, self.steps, processes)
        for name, gradient in gradients.items():
            parameter = slots[name].parameter
            if name in self._layers:
                layer = self._layers[name]
                frozen = layer.frozen if layer.scaled_for is None else layer.frozen * layer.gain
                gradient = straight_through(gradient, frozen, None if layer.signed else parameter)
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return all that a search needs to go on, but the optimizer."""
        return {**super().state_dict(), "estimator": self._estimator.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `state_dict` returned for a search with the same arguments."""
        super().load_state_dict(state)
        self._estimator.load_state_dict(state["estimator"])

    @property
    def _estimator(self) -> Estimator:
        estimator = self._state.progress.carried
        assert isinstance(estimator, Estimator)
        return estimator
