"""Selection and masking on the CPU: counting instead of sorting, in compiled loops."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supermask.masking.kernels import counting, plain
from supermask.masking.kernels.cpu_plan import CpuPlan, in_memory_order, lie_alike, lone_plan, plan_of
from supermask.masking.kernels.top_k import Sgd, TopK, Trained

Integers = NDArray[np.int64]
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class CpuSelector:
    """Selection for scores on the CPU of at most 32 bits; the arguments and attributes are those of `PlainSelector`.

    It remembers the thresholds of the step before, where the tensors lie for as long as they stay there, and what a
    step of SGD has counted; all three change only the time that a selection takes.
    """

    def __init__(self, signed: bool) -> None:
        self.signed = signed
        self.nans: Tensor | None = None
        self.kept: list[int] | None = None
        self._plan: CpuPlan | None = None
        self._memories = _memories(0)
        self._windows = np.zeros((1, 2 * counting.WIDEST), np.int32)
        self._counts = _counts(0)
        self._counted: list[int] = []

    @torch.no_grad()
    def select(self, problems: Sequence[TopK]) -> None:
        """Write the masks of all problems; one with a NaN leaves its masks as they were."""
        if self._plan is None or not self._plan.holds_for(problems):
            self._plan, self._counted = plan_of(problems), []
        if len(problems) != len(self._memories):
            self._memories, self._counts = _memories(len(problems)), _counts(len(problems))
        if not self._counted or self._counted != _versions(self._plan):
            self._counts[:] = 0
        self.nans = self.kept = None
        outcomes = np.empty(len(problems), np.int64)
        if not self._run(self._plan, problems, self._memories, self._counts, outcomes):
            self._see_to(problems, outcomes)
        else:
            self.kept = self._plan.rows[:, counting.KEPT].tolist()
        self._counted = []  # the windows have moved

    @torch.no_grad()
    def descend(self, trained: Sequence[Trained], sgd: Sgd) -> None:
        """Take a step of SGD on scores.

        Where they are those of the last selection, it counts on its way what the next one wants to know.
        """
        fitting = {each.scores.data_ptr(): each for each in trained if _is_one_loop(each)}
        for each in trained:
            if each.scores.data_ptr() not in fitting:
                plain.descend(each, sgd)
        if not fitting:
            return
        known = self._plan
        if known is None or known.before or fitting.keys() != set(known.addresses_of_scores):
            known = None
        if known is None:
            # the same loop, because its sums have the same last bits whether it counts or not
            plan, memories, counts = lone_plan([each.scores for each in fitting.values()]), _memories(1), _counts(1)
        else:
            plan, memories, counts = known, self._memories, self._counts
        if len(self._windows) < len(plan.ends):
            self._windows = np.zeros((len(plan.ends), 2 * counting.WIDEST), np.int32)
        ordered = [fitting[address] for address in plan.addresses_of_scores]
        table = np.array(
            [
                (each.gradient.data_ptr(), each.slope.data_ptr(), each.momentum.data_ptr(), each.signed)
                for each in ordered
            ],
            np.int64,
        )
        numbers = (sgd.rate, sgd.momentum, sgd.weight_decay, sgd.nesterov)
        counting.update(plan.rows, plan.ends, table, self.signed, *numbers, memories, counts, self._windows)
        torch.autograd.graph.increment_version([tensor for each in ordered for tensor in (each.scores, each.momentum)])
        self._counted = _versions(plan) if known else []

    def _see_to(self, problems: Sequence[TopK], outcomes: Integers) -> None:
        """Select again where ties lie scattered, and count NaN."""
        scattered = [problems[i] for i in _where(outcomes, counting.SCATTERED_TIES)]
        if scattered:
            again = np.empty(len(scattered), np.int64)
            found = (_memories(len(scattered)), _counts(len(scattered)))
            self._run(plan_of(scattered, row_major=True), scattered, *found, again)
        self.nans = torch.zeros(len(problems), dtype=torch.int64, device="cpu")
        for i in _where(outcomes, counting.HAS_NAN):
            self.nans[i] = sum(int(scores.isnan().sum().item()) for scores in problems[i].scores)

    def _run(
        self, plan: CpuPlan, problems: Sequence[TopK], memories: Integers, counts: Integers, outcomes: Integers
    ) -> bool:
        """Write what the plan says; return whether every problem is done."""
        for copy, tensor in plan.before:
            copy.copy_(tensor)
        kept = np.array([problem.kept for problem in problems], np.int64)
        done = counting.select(plan.rows, plan.ends, kept, self.signed, memories, counts, self._windows, outcomes)
        for mask, written in plan.after:
            mask.copy_(written)
        for mask, weights in plan.followers:
            mask_weights(weights.frozen, mask, weights.value)
        if plan.values:
            torch.autograd.graph.increment_version(plan.values)  # written past autograd, which must see it
        return bool(done)


def _memories(problems: int) -> Integers:
    return np.zeros((problems, counting.MEMORY), np.int64)


def _counts(problems: int) -> Integers:
    return np.zeros((problems, counting.COUNTS), np.int64)


def _versions(plan: CpuPlan) -> list[int]:
    """Return how often torch has been told of a change of each tensor."""
    return [tensor._version for tensor in plan.scores]


def _is_one_loop(trained: Trained) -> bool:
    scores, gradient, slope, momentum, _ = trained
    if not scores.dtype is gradient.dtype is slope.dtype is momentum.dtype is torch.float32:
        return False
    return lie_alike(scores, gradient, slope, momentum)


def _where(outcomes: Integers, outcome: int) -> list[int]:
    found: list[int] = np.flatnonzero(outcomes == outcome).tolist()
    return found


def mask_weights(frozen: Tensor, mask: Tensor, out: Tensor) -> None:
    """Write the frozen weights where the mask is True, and +0 elsewhere."""
    flat = in_memory_order(frozen, mask, out)
    if flat is None or frozen.dtype != out.dtype:
        plain.mask_weights(frozen, mask, out)
        return
    kind = _INTEGERS[frozen.element_size()]
    counting.write_masked(flat[0].view(kind).numpy(), flat[1].numpy(), flat[2].view(kind).numpy())
    torch.autograd.graph.increment_version(out)


def straight_through(gradient: Tensor, frozen: Tensor, scores: Tensor | None) -> Tensor:
    """Return gradient x frozen, x sign(scores) where there are any."""
    if scores is None or not gradient.dtype is frozen.dtype is scores.dtype is torch.float32:
        return plain.straight_through(gradient, frozen, scores)
    product = torch.empty_like(frozen)
    if not lie_alike(gradient, frozen, scores, product):
        return plain.straight_through(gradient, frozen, scores)
    addresses = map(Tensor.data_ptr, (gradient, frozen, scores, product))
    counting.write_signed_products(*addresses, product.numel())
    return product


def write_signs(bits: Tensor, magnitude: Tensor, out: Tensor) -> None:
    """Write plus the magnitude where the bit is set, lowest bit of a byte first, and minus the magnitude elsewhere."""
    if out.dtype is not torch.float32 or not out.is_contiguous():
        plain.write_signs(bits, magnitude, out)
        return
    counting.write_signs(bits.numpy(), np.float32(magnitude.item()), out.view(-1).numpy())
    torch.autograd.graph.increment_version(out)


SELECTOR = CpuSelector
