"""What a ticket does to random weights besides masking, weight by weight."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import EdgePopup, SupermaskError
from supermask.errors import TicketError
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import digest, grow_all

MASK = torch.tensor([[True, False, True], [True, True, False]])


def draws(number):
    return torch.arange(6.0).reshape(2, 3) + 1 + 10 * number


def treated(**parts):
    return Treatment(**parts).apply(MASK, draws, 0, "weight")


def test_nothing_done_is_the_masked_weight():
    assert treated().tolist() == [[1, 0, 3], [4, 5, 0]]
    assert not treated().signbit().any()


def test_factors_redraws_and_the_gain_apply_to_kept_weights():
    factors = torch.tensor([[-1, 0, 2], [1, 3, 0]], dtype=torch.int8)
    redraws = torch.tensor([[0, 0, 1], [2, 0, 0]], dtype=torch.int32)
    assert treated(factors=factors).tolist() == [[-1, 0, 6], [4, 15, 0]]
    assert treated(redraws=redraws).tolist() == [[1, 0, 13], [24, 5, 0]]
    assert treated(gain=0.5, factors=factors, redraws=redraws).tolist() == [[-0.5, 0, 13], [12, 7.5, 0]]


def test_a_reshuffle_moves_the_kept_values_among_themselves():
    large = torch.rand(50, 40, generator=torch.Generator().manual_seed(0)) < 0.4
    values = torch.arange(2000.0).reshape(50, 40)
    moved = [Treatment(reshuffled=True).apply(large, lambda _: values, seed, "w") for seed in (0, 0, 1)]
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])
    assert torch.equal(moved[0][large].sort().values, values[large].sort().values)
    assert not moved[0][~large].any()


def test_the_draws_given_are_left_as_they_are():
    grown = draws(0)
    Treatment(reshuffled=True, gain=2.0).apply(MASK, lambda _: grown, 0, "weight")
    assert torch.equal(grown, draws(0))


@pytest.mark.parametrize("gain", [0.0, -1.0, math.inf, math.nan])
def test_a_gain_that_is_none_is_refused(gain):
    with pytest.raises(SupermaskError, match="gain"):
        Treatment(gain=gain)


@pytest.mark.parametrize(
    ("treatment", "says"),
    [
        (lambda: Treatment(factors=torch.ones(2, 3)), "must be torch.int8"),
        (lambda: Treatment(redraws=torch.ones(2, 3)), "must be torch.int32"),
        (lambda: Treatment(factors=torch.ones(3, 2, dtype=torch.int8)).check("w", MASK), r"shape \(3, 2\)"),
        (
            lambda: Treatment(factors=torch.ones(2, 3, dtype=torch.int8)).check("w", MASK),
            "exactly where its mask prunes",
        ),
        (lambda: Treatment(redraws=torch.ones(2, 3, dtype=torch.int32)).check("w", MASK), "must be 0 where"),
        (lambda: Treatment(redraws=-MASK.int()).check("w", MASK), "not negative"),
    ],
)
def test_parts_that_do_not_fit_are_refused(treatment, says):
    with pytest.raises(SupermaskError, match=says):
        treatment()


def test_for_another_mask_the_parts_go_to_its_weights_in_order():
    factors = torch.tensor([[-1, 0, 2], [1, 3, 0]], dtype=torch.int8)
    other = torch.tensor([[False, True, True], [True, False, True]])
    moved = Treatment(gain=2.0, factors=factors).moved_to(MASK, other)
    assert moved.factors.tolist() == [[0, -1, 2], [1, 0, 3]]
    assert moved.gain == 2.0
    everything = Treatment(factors=factors).moved_to(MASK, torch.ones(2, 3, dtype=torch.bool))
    assert everything.factors.tolist() == [[-1, 2, 1], [3, -1, 2]], "repeated from the first"
    empty = torch.zeros(2, 3, dtype=torch.bool)
    assert Treatment(factors=empty.to(torch.int8)).moved_to(empty, other).factors.tolist() == other.int().tolist()


@given(pruned=st.integers(0, 40), locked=st.integers(0, 40), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_a_preset_fixes_so_many_entries_and_the_same_ones_again(pruned, locked, seed):
    preset = Preset(pruned, locked)
    if pruned + locked > 60:
        with pytest.raises(SupermaskError, match="fixes more entries"):
            preset.grow(seed, "w", (6, 10))
        return
    free, kept = preset.grow(seed, "w", (6, 10))
    assert (int(free.sum()), int(kept.sum())) == (60 - pruned - locked, locked)
    assert not (free & kept).any()
    again = preset.grow(seed, "w", (6, 10))
    assert torch.equal(free, again.free)
    assert torch.equal(kept, again.locked)


def small_ticket():
    return EdgePopup(nn.Linear(6, 5, bias=False), density=0.5).ticket()


def test_a_ticket_refuses_treatments_and_presets_that_contradict_it():
    ticket = small_ticket()
    with pytest.raises(TicketError, match="no mask"):
        replace(ticket, treatments={"other": Treatment()})
    with pytest.raises(TicketError, match="exactly where"):
        replace(ticket, treatments={"weight": Treatment(factors=torch.ones(5, 6, dtype=torch.int8))})
    with pytest.raises(TicketError, match="differs from its preset"):
        replace(ticket, presets={"weight": Preset(30, 0)})


def test_a_ticket_reads_further_draws_of_its_own_seed():
    ticket = small_ticket()
    redraws = 3 * ticket.masks["weight"].int()
    network = replace(ticket, treatments={"weight": Treatment(redraws=redraws)}).apply(nn.Linear(6, 5, bias=False))
    third = ticket.weights["weight"].grow(ticket.seed, "weight", draw=3)
    assert torch.equal(network.weight, torch.where(ticket.masks["weight"], third, 0.0))
    first = grow_all(ticket.weights, ticket.seed)["weight"]
    assert digest({"weight": first}) == ticket.digest
    assert not torch.equal(first, third)
