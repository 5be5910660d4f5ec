"""L0 regularisation: each weight passes a random gate, and the expected number of open gates is penalised."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from supermask.baselines.during_training.base import CutDetails, DuringTraining, check_fractions
from supermask.baselines.method import MethodResult, RunContext
from supermask.baselines.sparse import Sparse
from supermask.errors import SupermaskError
from supermask.masking.budget import Global, Pool
from supermask.masking.pruning import prune
from supermask.random.keyed import keyed_generator
from supermask.ticket import Ticket

BETA, GAMMA, ZETA = 2.0 / 3.0, -0.1, 1.1
"""Temperature and ends of the stretched gate: Louizos, Welling & Kingma 2018, section 4."""
_SHIFT = BETA * math.log(-GAMMA / ZETA)
_CLOSE = 1e-6  # of a uniform number to 0 and 1, whose logarithms are infinite


def concrete(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """Return s = sigmoid((log u - log(1 - u) + log alpha) / beta), Louizos et al. 2018, equation 10."""
    u = uniform.clamp(_CLOSE, 1.0 - _CLOSE)
    return torch.sigmoid((u.log() - (-u).log1p() + log_alpha) / BETA)


def stretched(s: Tensor) -> Tensor:
    """Return the gate min(1, max(0, s (zeta - gamma) + gamma)), equation 11."""
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


def open_chance(log_alpha: Tensor) -> Tensor:
    """Return the chance that a gate is not zero, sigmoid(log alpha - beta log(-gamma / zeta)), equation 12."""
    return torch.sigmoid(log_alpha - _SHIFT)


def without_noise(log_alpha: Tensor) -> Tensor:
    """Return the gate of evaluations, min(1, max(0, sigmoid(log alpha) (zeta - gamma) + gamma)), equation 13."""
    return stretched(torch.sigmoid(log_alpha))


class HardConcrete(Sparse):
    """A network whose weights are products of free weights and random gates, until the gates are fixed.

    The model's prunable weights are the products: those of the step's gates in training, and of the gates without
    noise in evaluation. The optimizer trains the free weights; the gates have an Adam of their own.

    Args:
        model: freshly built, of the ticket's architecture, on the device to compute on; becomes the network, in place.
        ticket: the whole network.
        pools: how many weights are kept in the end.
        end: optimizer steps after which the gates are fixed.
        first_chance: that a gate is open in the beginning.
        rate: of Adam, for the log alphas.
        penalty: of the expected fraction of open gates; None lets it rise while they are more than the density.
        dual_rate: of that rise, per step.
        seed: of the noise.

    """

    name: ClassVar[str] = "l0"

    def __init__(
        self,
        model: nn.Module,
        ticket: Ticket,
        *,
        pools: Sequence[Pool],
        end: int,
        first_chance: float,
        rate: float,
        penalty: float | None,
        dual_rate: float,
        seed: int,
    ) -> None:
        super().__init__(model, ticket)
        self._pools, self._end, self._seed = pools, end, seed
        self._fixed_penalty, self._dual_rate, self.penalty = penalty, dual_rate, penalty or 0.0
        self._free = {name: nn.Parameter(weight.clone()) for name, weight in self.weights().items()}
        first = math.log(first_chance / (1.0 - first_chance)) + _SHIFT
        self.log_alpha = {name: nn.Parameter(torch.full_like(weight, first)) for name, weight in self._free.items()}
        self._gates = torch.optim.Adam(self.log_alpha.values(), lr=rate)
        self._drawn: dict[str, Tensor] = {}
        self._size = sum(weight.numel() for weight in self._free.values())
        self.found: float | None = None
        self.complete = False
        model.register_forward_pre_hook(self._multiply)

    @property
    def expected(self) -> float:
        """The expected fraction of open gates."""
        return float(torch.stack([open_chance(each).sum() for each in self.log_alpha.values()]).sum()) / self._size

    def parameters(self) -> Iterable[nn.Parameter]:
        """Yield what the optimizer trains: the free weights, and all that cannot be pruned."""
        products = {id(slot.parameter) for slot in self.prunable.values()}
        yield from self._free.values()
        yield from (parameter for parameter in super().parameters() if id(parameter) not in products)

    @torch.no_grad()
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Pass the gradients of the products on to the free weights, and take a step of the gates."""
        gating = self.steps < self._end
        if gating and self._fixed_penalty is None:
            surplus = self.expected - sum(pool.kept for pool in self._pools) / self._size
            self.penalty = self.penalty + self._dual_rate * surplus if surplus > 0.0 else 0.0
        masks = self._masks()
        for name, slot in self.prunable.items():
            gradient, slot.parameter.grad = slot.parameter.grad, None  # the optimizer does not know the products
            if gradient is None:
                continue
            free, log_alpha = self._free[name], self.log_alpha[name]
            if not gating:
                free.grad = gradient * masks[name]
                continue
            s = self._drawn[name]
            gate, chance = stretched(s), open_chance(log_alpha)
            slope = torch.where((gate > 0.0) & (gate < 1.0), (ZETA - GAMMA) / BETA * s * (1.0 - s), 0.0)
            free.grad = gradient * gate
            log_alpha.grad = gradient * free * slope + self.penalty / self._size * chance * (1.0 - chance)
        if gating:
            self._gates.step()

    def step(self) -> None:
        """Fix the gates where it is time to; after that, set the weights to the free ones that are kept."""
        self.steps += 1
        if self.steps == self._end:
            self._fix()
        if self.steps >= self._end:
            self._take()

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, but the optimizer."""
        return {
            **super().state_dict(),
            "free": {name: each.detach() for name, each in self._free.items()},
            "log_alpha": {name: each.detach() for name, each in self.log_alpha.items()},
            "gates": self._gates.state_dict(),
            "penalty": self.penalty,
            "found": self.found,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned for a network that was made with the same arguments."""
        super().load_state_dict(state)
        for name, each in self._free.items():
            each.copy_(state["free"][name])
            self.log_alpha[name].copy_(state["log_alpha"][name])
        self._gates.load_state_dict(state["gates"])
        self.penalty, self.found = state["penalty"], state["found"]
        self.complete = self.steps >= self._end

    @torch.no_grad()
    def _multiply(self, model: nn.Module, _: Any) -> None:
        """Set the weights to the products, before a forward pass."""
        if self.steps >= self._end:
            return
        for name, slot in self.prunable.items():
            log_alpha = self.log_alpha[name]
            if model.training:
                self._drawn[name] = concrete(log_alpha, self._uniform(name, log_alpha))
            gate = stretched(self._drawn[name]) if model.training else without_noise(log_alpha)
            slot.parameter.copy_(self._free[name] * gate)

    def _uniform(self, name: str, like: Tensor) -> Tensor:
        # by the step alone, so that several processes draw the same, and a run that goes on what it would have drawn
        drawn = keyed_generator(self._seed, self.name, name, self.steps).random(like.numel(), dtype="float32")
        return torch.from_numpy(drawn).to(like.device, like.dtype).view(like.shape)

    @torch.no_grad()
    def _fix(self) -> None:
        """Keep the weights of the largest log alphas, and let the gates without noise become a part of the weights."""
        self.found = self.expected
        for name, free in self._free.items():
            free.mul_(without_noise(self.log_alpha[name]))
        self.set_masks(prune({name: each.detach() for name, each in self.log_alpha.items()}, self._pools))
        self.complete = True

    @torch.no_grad()
    def _take(self) -> None:
        for name, slot in self.prunable.items():
            slot.parameter.copy_(self._free[name])
        self._silence()


@dataclass(frozen=True)
class L0(DuringTraining):
    """L0 regularisation by hard concrete gates on weights that are trained (Louizos, Welling & Kingma 2018).

    Each weight is theta z. In training z is drawn for each step from (seed, parameter name, step) by equations 10 and
    11, and the loss is penalised by lambda times the expected fraction of gates that are not zero (equation 12; the
    paper's lambda counts gates). Evaluation takes the gate of equation 13. Gale, Elsen & Hooker 2019 gate single
    weights in this way, as is done here; the paper mostly gates whole units.

    Published, the density is an outcome of lambda. Here it is given, so that lambda rises by what is open beyond the
    density, and starts again from zero when nothing is (the dual ascent with restarts of Gallego-Posada et al. 2022).
    After a part of the run the largest log alphas of the whole network are kept, exactly as many as asked, and trained
    on. The density that the gates had found by themselves is in the result.

    Ours are also the numbers: Adam's rate and that of lambda, the first chance and the length of the last part.

    Attributes:
        penalty: lambda; None lets it follow the density.
        dual_rate: how much lambda rises in a step in which all gates are open beyond the density.
        rate: of Adam, by which the log alphas are trained.
        first_chance: that a gate is open in the beginning.
        end: when the gates are fixed, as a fraction of the run's optimizer steps.

    """

    name: ClassVar[str] = HardConcrete.name
    details_kind: ClassVar[type] = CutDetails

    penalty: float | None = None
    dual_rate: float = 1.0
    rate: float = 0.05
    first_chance: float = 0.9
    end: float = 0.75

    def __post_init__(self) -> None:
        check_fractions(self.name, end=self.end)
        if not 0.0 < self.first_chance < 1.0:
            raise SupermaskError(f"{self.name}: first_chance={self.first_chance} is out of range; it is in (0, 1).")
        if not (0.0 <= (self.penalty or 0.0) < math.inf and 0.0 < self.dual_rate < math.inf and 0.0 < self.rate < 1.0):
            raise SupermaskError(
                f"{self.name}: penalty={self.penalty}, dual_rate={self.dual_rate}, rate={self.rate} do not fit: the"
                " first is not negative, the second positive, the third in (0, 1)."
            )

    def network(self, context: RunContext) -> HardConcrete:
        """Return the whole network with its gates."""
        shapes = {name: tuple(mask.shape) for name, mask in context.whole.masks.items()}
        return HardConcrete(
            context.build().to(context.device),
            context.whole,
            pools=Global(floor=1).pools(shapes, context.density),
            end=max(1, round(self.end * context.steps)),
            first_chance=self.first_chance,
            rate=self.rate,
            penalty=self.penalty,
            dual_rate=self.dual_rate,
            seed=context.seed,
        )

    def run(self, context: RunContext) -> MethodResult:
        """Train the network."""
        network = self.network(context)
        outcome = context.train(network)
        scores = {name: each.detach() for name, each in network.log_alpha.items()}
        return MethodResult(network, outcome, scores, CutDetails(outcome.last["found"]))
