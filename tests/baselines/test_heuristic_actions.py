"""Every action weight by weight: a ticket's network against what the paper says of each single weight."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from supermask import SupermaskError
from supermask.baselines.heuristic.actions import Actions
from supermask.baselines.sparse import whole_ticket
from supermask.random.distributions import SignOf

KEPT = ("rewind", "reinitialise", "reshuffle", "constant")
PRUNED = ("zero", "freeze", "variant_1", "variant_2")
ALLOWED = [
    (mask_1, keep_sign, mask_0)
    for mask_1, keep_sign, mask_0 in product(KEPT, (True, False), PRUNED)
    if mask_0 == "zero" or mask_1 in ("rewind", "reinitialise")
]


def build():
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 10, bias=False), nn.Linear(10, 3))


def setting(weights="kaiming_normal", dense=("4.weight",)):
    """Return a dense network's ticket, a random mask and weights after a training that never was."""
    whole = whole_ticket(build(), seed=5, weights=weights, dense=dense)
    generator = torch.Generator().manual_seed(1)
    initial = {name: tensor for name, tensor in whole.random_weights().items() if name in whole.masks}
    final = {name: w * (0.5 + torch.rand(w.shape, generator=generator)) for name, w in initial.items()}
    chosen = {name: torch.rand(w.shape, generator=generator) < 0.4 for name, w in initial.items()}
    return whole, initial, final, chosen


def weights_of(ticket):
    return {name: parameter.detach() for name, parameter in ticket.apply(build()).named_parameters()}


def present(mask_0, kept, i, f):
    toward = abs(f) < abs(i)
    if kept:
        return not (mask_0 == "variant_2" and toward)
    return {"zero": False, "freeze": True}.get(mask_0, not toward)


@pytest.mark.parametrize(("mask_1", "keep_sign", "mask_0"), ALLOWED)
def test_every_weight_is_what_the_actions_say(mask_1, keep_sign, mask_0):
    whole, initial, final, chosen = setting()
    ticket = Actions(mask_1, keep_sign, mask_0).ticket(whole, chosen, final)
    found = weights_of(ticket)
    seen = set()
    for name, kept in chosen.items():
        deviation = whole.weights[name].distribution.std(whole.weights[name].fans)
        again = whole.weights[name].grow(whole.seed, name, draw=1)
        triples = zip(
            *(t.flatten().tolist() for t in (kept, initial[name], final[name], again, found[name])), strict=True
        )
        for is_kept, i, f, other, value in triples:
            seen.add((is_kept, abs(f) < abs(i)))
            if not present(mask_0, is_kept, i, f):
                assert value == 0.0
                assert math.copysign(1.0, value) == 1.0
            elif not is_kept:
                assert value == i
            elif mask_1 == "rewind":
                assert value == (i if keep_sign else math.copysign(i, other))
            elif mask_1 == "reinitialise":
                assert value == (math.copysign(other, i) if keep_sign else other)
            elif mask_1 == "constant":
                assert value == pytest.approx(math.copysign(deviation, i if keep_sign else other), rel=1e-6)
            elif keep_sign:
                assert math.copysign(1.0, value) == math.copysign(1.0, i)
        if mask_1 == "reshuffle":
            before, after = initial[name][kept], found[name][kept]
            size = torch.abs if keep_sign else torch.clone
            assert not torch.equal(size(before), size(after))
            assert torch.equal(size(before).sort().values, size(after).sort().values)
    assert len(seen) == 4


@pytest.mark.parametrize(("mask_1", "keep_sign", "mask_0"), ALLOWED)
def test_the_mask_holds_what_is_in_the_network(mask_1, keep_sign, mask_0):
    whole, _, final, chosen = setting()
    ticket = Actions(mask_1, keep_sign, mask_0).ticket(whole, chosen, final)
    for name, weight in weights_of(ticket).items():
        if name in chosen:
            assert torch.equal(weight != 0, ticket.masks[name])
        elif name in whole.weights:  # not prunable: as it was
            assert torch.equal(weight, whole.random_weights()[name])
    counts = {"zero": sum(int(mask.sum()) for mask in chosen.values()), "freeze": whole.prunable}
    assert ticket.kept == counts.get(mask_0, ticket.kept)
    assert ticket.seed == whole.seed


@pytest.mark.parametrize("weights", ["xavier_uniform", "uniform", "signed_constant", "truncated_normal", "sign_of"])
def test_the_constant_is_the_deviation_of_whatever_the_weights_were_drawn_from(weights):
    whole, initial, final, chosen = setting(weights, dense=())
    ticket = Actions("constant").ticket(whole, chosen, final)
    for name, tensor in initial.items():
        deviation = whole.weights[name].distribution.deviation(whole.weights[name].fans)
        kept = weights_of(ticket)[name][chosen[name]]
        assert torch.equal(kept, torch.full_like(kept, deviation).copysign(tensor[chosen[name]]))
        assert isinstance(ticket.weights[name].distribution, SignOf)


def test_a_weight_that_ended_as_far_from_zero_as_it_began_did_not_move_toward_it():
    kept, initial, final = torch.tensor([False, False]), torch.tensor([0.5, -0.5]), torch.tensor([-0.5, 0.4])
    assert Actions(mask_0="variant_1").present(kept, initial, final).tolist() == [True, False]


@pytest.mark.parametrize("mask_1", ["reshuffle", "constant"])
@pytest.mark.parametrize("mask_0", ["freeze", "variant_1", "variant_2"])
def test_actions_that_one_ticket_cannot_hold_are_refused(mask_1, mask_0):
    with pytest.raises(SupermaskError, match=rf"^mask_1='{mask_1}' does not go with mask_0='{mask_0}': a ticket has"):
        Actions(mask_1, mask_0=mask_0)


@pytest.mark.parametrize(("option", "value"), [("mask_1", "reset"), ("mask_0", "none"), ("mask_0", None)])
def test_an_unknown_action_is_answered_with_the_known(option, value):
    with pytest.raises(SupermaskError, match=rf"^{option}={value!r} is unknown; known are (rewind|zero), .*\.$"):
        Actions(**{option: value})


def test_empty_layers_and_whole_layers_have_actions_too():
    whole, _, final, chosen = setting(dense=())
    for fill, mask_1, keep_sign in product((False, True), KEPT, (False, True)):
        filled = {name: torch.full_like(mask, fill) for name, mask in chosen.items()}
        ticket = Actions(mask_1, keep_sign).ticket(whole, filled, final)
        assert ticket.kept == fill * whole.prunable
        assert all(bool((weight != 0).all()) == fill for name, weight in weights_of(ticket).items() if name in chosen)
