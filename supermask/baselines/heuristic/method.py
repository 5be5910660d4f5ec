"""Heuristic supermasks as methods: a dense training says which weights are kept, and their values go back to the seed.

Zhou, Lan, Liu & Yosinski 2019, "Deconstructing lottery tickets: zeros, signs, and the supermask".
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, get_args

from torch import Tensor

from supermask.baselines.heuristic.actions import Actions, KeptAction, PrunedAction, check_choice
from supermask.baselines.heuristic.criteria import CRITERIA, CriterionName, Sign, layer_scores
from supermask.baselines.heuristic.networks import PartlyFrozen, Untrained
from supermask.baselines.method import Method, MethodResult, RunContext
from supermask.masking.ladder import Ladder
from supermask.masking.pruning import prune
from supermask.ticket import Ticket

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class HeuristicDetails:
    """What a criterion adds to a result.

    Attributes:
        chosen: weights that the criterion keeps.
        same_sign: of them, those that the dense training left with the sign that they had.
        dense_accuracy: test accuracy of the dense training, a fraction; NaN before it is known.
        frozen: weights of the network that stay at their initial value, where the network is trained afterwards.

    """

    chosen: int
    same_sign: int
    dense_accuracy: float = math.nan
    frozen: int | None = None


class Choice(NamedTuple):
    """What a criterion and the actions make of a dense training.

    Attributes:
        ticket: the network before it is trained again, if it is.
        chosen: masks of the weights that the criterion keeps, by parameter name.
        scores: that chose them; None where the ticket's masks are not theirs, because it has frozen weights.
        details: for the result.

    """

    ticket: Ticket
    chosen: Tensors
    scores: Tensors | None
    details: HeuristicDetails


@dataclass(frozen=True)
class Heuristic(Method):
    """Supermask by a criterion on the weights before and after a dense training (Zhou et al. 2019, "supermasks").

    The dense network is trained; the weights that the criterion ranks highest are kept, a layer at a time, in one
    round; the network is run untrained. The defaults are the paper's best: large final weights of unchanged sign, each
    replaced by its sign times the standard deviation of its layer.

    The density is that of the weights that the criterion keeps. Where pruned weights are frozen at their initial value,
    they are in the network all the same: the counts of the result are those of its mask, and its `chosen` those of the
    criterion.

    Attributes:
        criterion: by which weights are ranked, w_i before and w_f after the training: see `criteria`.
        sign: keep weights whatever their sign, those that training left with the "same" sign first, or those that it
            left with a "different" one.
        mask_1: what kept weights become: their initial values ("rewind"), another draw ("reinitialise"), their initial
            values in another order within the layer ("reshuffle"), or the layer's standard deviation with a sign
            ("constant").
        keep_sign: give each kept weight its initial sign; otherwise it is what the action gives, or drawn at random.
        mask_0: what pruned weights become: "zero", frozen at their initial value ("freeze"), zero if they moved toward
            zero and else frozen ("variant_1"), or so, with kept ones that moved toward zero at zero ("variant_2").
        rate: fraction of a layer's weights that a round of iterative pruning would remove, which says how dense the
            layers are beside each other.
        conv_rate: the same of convolutions; by default as other layers.
        output_rate: the same of the output layer; by default half of the rate.

    """

    name: ClassVar[str] = "heuristic"
    details_kind: ClassVar[type] = HeuristicDetails

    criterion: CriterionName = "large_final"
    sign: Sign = "same"
    mask_1: KeptAction = "constant"
    keep_sign: bool = True
    mask_0: PrunedAction = "zero"
    rate: float = 0.2
    conv_rate: float | None = None
    output_rate: float | None = None

    def __post_init__(self) -> None:
        check_choice("criterion", self.criterion, tuple(CRITERIA))
        check_choice("sign", self.sign, get_args(Sign))
        _ = (self.actions, self.ladder)  # what they refuse is refused before the dense training

    @property
    def actions(self) -> Actions:
        """What kept and pruned weights become."""
        return Actions(self.mask_1, self.keep_sign, self.mask_0)

    @property
    def ladder(self) -> Ladder:
        """How dense the layers are beside each other."""
        return Ladder(self.rate, self.conv_rate, self.rate / 2 if self.output_rate is None else self.output_rate)

    def shared(self) -> Method:
        """Return the method with the options that the dense training does not depend on."""
        return type(self)()

    def choose(self, whole: Ticket, final: Tensors, density: float) -> Choice:
        """Return the supermask of a dense training.

        Args:
            whole: the ticket of the dense network at its initialisation.
            final: its prunable weights after the training, by parameter name, on the CPU.
            density: fraction of the prunable weights that the criterion keeps.

        Raises:
            SupermaskError: the density leaves no weight, or a weight is NaN.

        """
        initial = whole.random_weights()
        scores = {
            name: layer_scores(self.criterion, self.sign, initial[name], weight, whole.seed, name)
            for name, weight in final.items()
        }
        shapes = {name: tuple(weight.shape) for name, weight in final.items()}
        pools = self.ladder.pools(shapes, self.ladder.rounds_to(shapes, density))
        chosen = prune(scores, pools)
        ticket = self.actions.ticket(whole, chosen, final)
        same_sign = _count(chosen[name] & (initial[name].sign() == final[name].sign()) for name in chosen)
        details = HeuristicDetails(_count(chosen.values()), same_sign)
        return Choice(ticket, chosen, scores if self.mask_0 == "zero" else None, details)

    def run(self, context: RunContext) -> MethodResult:
        """Train the dense network, and run what is kept of it untrained."""
        choice = self._chosen(context)
        network = Untrained(context.build().to(context.device), choice.ticket)
        outcome = context.train(network, recipe=replace(context.recipe, epochs=0, iterations=None))
        return MethodResult(network, outcome, choice.scores, choice.details)

    def _chosen(self, context: RunContext) -> Choice:
        dense = context.train(context.sparse(), stage="dense")
        final = {name: dense.last["model"][name].cpu() for name in context.whole.masks}
        choice = self.choose(context.whole, final, context.density)
        return choice._replace(details=replace(choice.details, dense_accuracy=dense.test.accuracy))


@dataclass(frozen=True)
class HeuristicTrained(Heuristic):
    """A heuristic supermask's network, trained afterwards (Zhou et al. 2019).

    Weights that the criterion keeps are trained, from where the mask-1 action puts them; those that it prunes stay
    where the mask-0 action puts them. The defaults are the lottery ticket in one round: large final weights, rewound;
    pruned ones at zero.

    The options are those of heuristic.
    """

    name: ClassVar[str] = "heuristic_trained"

    sign: Sign = "any"
    mask_1: KeptAction = "rewind"

    def run(self, context: RunContext) -> MethodResult:
        """Train the dense network, and then what is kept of it."""
        choice = self._chosen(context)
        network = PartlyFrozen(context.build().to(context.device), choice.ticket, choice.chosen)
        frozen = _count(mask & ~choice.chosen[name] for name, mask in choice.ticket.masks.items())
        return MethodResult(network, context.train(network), choice.scores, replace(choice.details, frozen=frozen))


def _count(masks: Iterable[Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks)
