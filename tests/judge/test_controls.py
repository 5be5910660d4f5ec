"""Each control changes what it says it changes, and keeps what it must keep."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import combinations

import pytest
import torch
from scipy import stats
from torch import nn

from supermask import EdgePopup, SupermaskError, Ticket, TicketError
from supermask.baselines.sparse import whole_ticket
from supermask.judge import CONTROLS, changed, named_control
from supermask.judge import controls as module
from supermask.masking.granularity import Blocks
from supermask.masking.pruning import prune
from supermask.random.distributions import Fans, Uniform
from supermask.random.weights import RandomWeight, digest, grow_all
from supermask.search import GemMiner, MulticoatedSupermask, SignedSupermask, StructuredPopup

RANDOM = [name for name in CONTROLS if name.startswith("random_")]


def network():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 20), nn.ReLU(), nn.Linear(20, 10)
    )


def found(**options):
    """Return the ticket of a search, learned tensors and all, and its scores."""
    search = EdgePopup(network(), **{"density": 0.3, "seed": 5, "bias": "learned", "norm": "learned", **options})
    return search.ticket(), {name: score.detach() for name, score in search.scores().items()}


def weak():
    """Return a ticket whose masks keep the largest of signed scores, as those at initialisation do."""
    whole = whole_ticket(network(), seed=6)
    scores = {name: torch.randn(mask.shape, generator=torch.manual_seed(0)) for name, mask in whole.masks.items()}
    pools = module.named_scope("global").pools({name: tuple(score.shape) for name, score in scores.items()}, 0.2)
    return replace(whole, masks=prune(scores, pools)), scores


TICKETS = {
    "strong": found,
    "erk": lambda: found(scope="erk"),
    "global": lambda: found(scope="global"),
    "signed": lambda: found(score="signed", weights="kaiming_normal", dense=("4.weight",)),
    "weak": weak,
}


def flat_ticket(**masks):
    """Return a ticket of nothing but flat layers with the masks given as lists."""
    tensors = {name: torch.tensor(mask, dtype=torch.bool) for name, mask in masks.items()}
    weights = {name: RandomWeight((len(mask),), Uniform(1.0), Fans(1, 1)) for name, mask in masks.items()}
    return Ticket(0, weights, tensors, digest(grow_all(weights, 0)))


def counts(ticket):
    return {name: int(mask.sum()) for name, mask in ticket.masks.items()}


def by_hand(before, after):
    """Return how many mask entries differ, one by one."""
    pairs = zip(before.masks.values(), after.masks.values(), strict=True)
    return sum(a != b for one, other in pairs for a, b in zip(one.flatten(), other.flatten(), strict=True))


@pytest.mark.parametrize("made_by", TICKETS.values(), ids=TICKETS)
@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_changes_and_keeps_what_it_says(name, made_by):
    ticket, scores = made_by()
    before = {name: mask.clone() for name, mask in ticket.masks.items()}
    made = CONTROLS[name](ticket, seed=1, scores=scores)
    how = changed(ticket, made)
    assert all(torch.equal(before[layer], ticket.masks[layer]) for layer in before)  # the ticket was left alone
    assert how.total == by_hand(ticket, made)
    assert made.kept == ticket.kept
    if name == "reinitialised":
        assert (how.total, how.weights) == (0, True)
        assert made.weights == ticket.weights
    else:
        assert how.total > 0.1 * min(ticket.kept, ticket.prunable - ticket.kept)
        assert made.seed == ticket.seed
    if name in ("shuffled_in_layers", "inverted"):
        assert counts(made) == counts(ticket)
        assert all(how.moved[layer] for layer, mask in ticket.masks.items() if mask.any() and not mask.all())
        assert not how.weights
    for part in ("constants", "bypassed"):
        assert getattr(made, part) == getattr(ticket, part)
    assert made.learned.keys() == ticket.learned.keys()
    assert all(torch.equal(made.learned[key], tensor) for key, tensor in ticket.learned.items())
    made.apply(network())  # its digest is that of its weights


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_draws_by_its_seed_alone(name):
    ticket, scores = found(density=0.1)
    first, again, other = (CONTROLS[name](ticket, seed=seed, scores=scores) for seed in (1, 1, 2))
    assert first.seed == again.seed
    assert not changed(first, again).total
    if name == "reinitialised":
        assert first.seed != other.seed
    elif name != "inverted":
        assert changed(first, other).total > 0


def test_new_weights_differ_in_every_tensor_but_not_in_kind():
    ticket, _ = found(weights="kaiming_normal", bias="frozen", dense=("4.weight",))
    made = CONTROLS["reinitialised"](ticket, seed=0)
    old, new = ticket.random_weights(), made.random_weights()
    assert "4.weight" not in ticket.masks
    for name in old:  # biases and whole layers too
        assert not torch.equal(old[name], new[name])
        assert (old[name] == new[name]).float().mean() < 0.1
    assert stats.ks_2samp(old["4.weight"].flatten().numpy(), new["4.weight"].flatten().numpy()).pvalue > 1e-4


def test_two_tickets_get_weights_of_two_seeds():
    seeds = {CONTROLS["reinitialised"](found(seed=seed)[0], seed=0).seed for seed in range(4)}
    assert len(seeds) == 4


def test_a_shuffle_is_uniform_over_all_masks_but_the_one_that_was():
    """600 draws of 5 masks: a fair shuffle fails one time in a thousand."""
    ticket = flat_ticket(a=[1, 1, 0, 0])
    for name in ("shuffled_in_layers", "shuffled_globally"):
        drawn = Counter(tuple(CONTROLS[name](ticket, seed=s).masks["a"].tolist()) for s in range(600))
        assert (True, True, False, False) not in drawn
        assert len(drawn) == math.comb(4, 2) - 1
        assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def test_random_masks_are_uniform_over_all_masks():
    """Of the 10 masks of 2 in 5, beside a large layer that always moves: a fair draw fails one time in a thousand."""
    ticket = flat_ticket(a=[1, 1, 0, 0, 0], b=[1, 1, 0, 0, 0] * 20)
    drawn = Counter()
    for seed in range(1000):
        mask = CONTROLS["random_uniform"](ticket, seed=seed).masks["a"]
        drawn[tuple(mask.nonzero().flatten().tolist())] += 1
    assert set(drawn) == set(combinations(range(5), 2))
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


@pytest.mark.parametrize("name", ["shuffled_in_layers", "random_uniform", "inverted"])
def test_two_equal_layers_get_masks_of_their_own(name):
    ticket = flat_ticket(a=[1] * 10 + [0] * 90, b=[1] * 10 + [0] * 90)
    scores = {layer: mask.float() for layer, mask in ticket.masks.items()}
    made = CONTROLS[name](ticket, seed=0, scores=scores)
    assert not torch.equal(made.masks["a"], made.masks["b"])


def test_a_global_shuffle_spreads_the_kept_weights_and_may_empty_a_layer():
    ticket = flat_ticket(a=[1] * 3, b=[0] * 300)
    made = [CONTROLS["shuffled_globally"](ticket, seed=seed) for seed in range(20)]
    assert all(counts(each)["a"] + counts(each)["b"] == 3 for each in made)
    assert sum(counts(each)["a"] == 0 for each in made) > 10


@pytest.mark.parametrize(
    ("name", "scope"), [("random_uniform", "layer"), ("random_erk", "erk"), ("random_smart_ratio", "smart_ratio")]
)
def test_random_masks_have_the_density_of_the_ticket_and_the_shares_of_their_scope(name, scope):
    ticket, _ = weak()
    shapes = {name: tuple(mask.shape) for name, mask in ticket.masks.items()}
    made = counts(CONTROLS[name](ticket, seed=0))
    for pool in module.named_scope(scope).pools(shapes, ticket.density):
        assert abs(made[pool.names[0]] - pool.kept) <= 1
    assert sum(made.values()) == ticket.kept


def test_random_masks_meet_a_total_that_rounding_by_layer_misses():
    ticket = flat_ticket(**{name: [1, 0, 0] for name in "abc"}, d=[1, 1, 0])
    assert sum(counts(CONTROLS["random_uniform"](ticket, seed=0)).values()) == 5  # 5 / 12 of 3 is 1.25


def test_the_factor_of_a_scaled_layer_follows_its_new_density():
    ticket, _ = found()  # every layer by 1/sqrt(0.3)
    made = CONTROLS["random_erk"](ticket, seed=0)
    assert changed(ticket, made).weights
    for name, mask in made.masks.items():
        assert made.weights[name].scale == pytest.approx(float(mask.float().mean()) ** -0.5)
        assert replace(made.weights[name], scale=1.0) == replace(ticket.weights[name], scale=1.0)


@pytest.mark.parametrize(
    "search",
    [
        partial(EdgePopup, scope="global"),
        partial(EdgePopup, scope="erk"),
        partial(MulticoatedSupermask),
        partial(MulticoatedSupermask, scope="global"),
        partial(SignedSupermask, scope="global"),
        partial(StructuredPopup, structure=Blocks(3, 3)),
        partial(GemMiner, steps=9),
    ],
)
def test_a_control_has_the_variance_that_its_ticket_has(search):
    ticket = search(network(), density=0.3, seed=2).ticket()
    controls = [CONTROLS[name](ticket, seed=0) for name in ("random_uniform", "random_erk", "shuffled_globally")]
    assert any(counts(made) != counts(ticket) for made in controls)
    for made in controls:
        for name, weight in made.apply(network()).requires_grad_(False).named_parameters():
            if name in made.masks and bool(made.masks[name].any()):
                plain = replace(made.weights[name], scale=1.0).grow(made.seed, name)  # signed constants
                assert float(weight.square().mean()) == pytest.approx(float(plain.square().mean()), rel=1e-5), name


def test_the_scale_of_an_older_ticket_of_a_global_density_follows_too():
    ticket = replace(found(scope="global")[0], treatments={})  # without the gains that a global scope has now
    made = CONTROLS["random_erk"](ticket, seed=0)
    assert all(made.weights[n].scale == pytest.approx(float(m.float().mean()) ** -0.5) for n, m in made.masks.items())


@pytest.mark.parametrize("name", [*RANDOM, "shuffled_globally"])
def test_other_weights_stay_bit_for_bit(name):
    ticket, _ = weak()
    assert not changed(ticket, CONTROLS[name](ticket, seed=0)).weights
    # a factor that is none of a density, as of networks that were built for a target
    weights = {name: replace(weight, scale=1.25) for name, weight in ticket.weights.items()}
    ticket = replace(ticket, weights=weights, digest=digest(grow_all(weights, ticket.seed)))
    assert not changed(ticket, CONTROLS[name](ticket, seed=0)).weights


def test_a_layer_that_keeps_its_count_or_loses_all_keeps_its_factor():
    ticket, _ = found()
    emptied = {name: torch.zeros_like(mask) for name, mask in ticket.masks.items()}
    assert module.remasked(ticket, emptied).digest == ticket.digest
    assert module.remasked(ticket, ticket.masks).digest == ticket.digest


@pytest.mark.parametrize("options", [{}, {"score": "signed"}])
def test_an_inversion_keeps_the_lowest(options):
    ticket, scores = found(**options)
    made = CONTROLS["inverted"](ticket, seed=0, scores=scores)
    for name, mask in made.masks.items():
        rank = scores[name] if options else scores[name].abs()
        assert rank[mask].max() < rank[~mask].min()
        assert changed(ticket, made).moved[name] == 2 * int(mask.sum())  # below density 1/2 nothing stays


def test_scores_of_a_baseline_are_ranked_as_they_explain_its_masks():
    ticket, scores = weak()
    made = CONTROLS["inverted"](ticket, seed=0, scores=scores)
    assert all(scores[name][mask].max() < scores[name][~mask].min() for name, mask in made.masks.items())


def test_an_inversion_draws_among_equal_scores():
    """Of 200 equal scores the 10 that are kept are neither the first ones nor always the same."""
    ticket = flat_ticket(a=[1] * 10 + [0] * 200)
    scores = {"a": torch.tensor([1.0] * 10 + [0.0] * 200)}
    places = [CONTROLS["inverted"](ticket, seed=s, scores=scores).masks["a"].nonzero().flatten() for s in range(2)]
    assert not torch.equal(places[0], places[1])
    assert all(place.min() >= 10 and place.max() > 60 for place in places)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda scores: None, "needs the scores that chose"),
        (lambda scores: {}, r"no scores of the right shape for 0.weight, 4.weight"),
        (lambda scores: {**scores, "0.weight": scores["4.weight"]}, "right shape for 0.weight;"),
        (lambda scores: {n: s.roll(1) for n, s in scores.items()}, "did not choose the ticket's masks"),
        (lambda scores: {n: -s for n, s in scores.items()}, "did not choose the ticket's masks"),
        (lambda scores: {n: s * math.nan for n, s in scores.items()}, "did not choose the ticket's masks"),
    ],
)
def test_an_inversion_without_the_tickets_scores_is_refused(spoil, says):
    ticket, scores = found(score="signed")
    with pytest.raises(TicketError, match=says):
        CONTROLS["inverted"](ticket, seed=0, scores=spoil(scores))


def test_a_ranking_that_the_ticket_states_is_not_guessed():
    """The magnitudes are those of the signed scores that chose the masks of the other ticket."""
    ticket, scores = found(score="signed")
    stated = replace(ticket, provenance={"options": {"score": "magnitude"}})
    with pytest.raises(TicketError, match="did not choose"):
        CONTROLS["inverted"](stated, seed=0, scores=scores)
    assert CONTROLS["inverted"](replace(ticket, provenance={}), seed=0, scores=scores).kept == ticket.kept


def test_the_published_shuffle_that_changes_nothing_is_caught(monkeypatch):
    def published(mask, *_):
        mask = mask.clone()
        rebound = mask[torch.randperm(len(mask))]  # noqa: F841  bound to a local name, and lost
        return mask

    monkeypatch.setattr(module, "moved", published)
    ticket, _ = found()
    with pytest.raises(TicketError, match=r"shuffled_in_layers moved nothing in 0.weight, 4.weight, 6.weight"):
        CONTROLS["shuffled_in_layers"](ticket, seed=0)
    with pytest.raises(TicketError, match="shuffled_globally moved no mask entry, and could have"):
        CONTROLS["shuffled_globally"](ticket, seed=0)


def test_a_shuffle_that_leaves_one_layer_alone_is_caught(monkeypatch):
    original = module.moved
    monkeypatch.setattr(module, "moved", lambda mask, *key: mask if key[-1] == "4.weight" else original(mask, *key))
    with pytest.raises(TicketError, match=r"moved nothing in 4.weight, where"):
        CONTROLS["shuffled_in_layers"](found()[0], seed=0)


def test_a_shuffle_that_loses_or_shifts_weights_is_caught(monkeypatch):
    ticket = flat_ticket(a=[1, 1, 0, 0], b=[1, 0, 0, 0])
    swapped = iter([torch.tensor([1, 0, 0, 0]).bool(), torch.tensor([0, 0, 1, 1]).bool()])
    monkeypatch.setattr(module, "moved", lambda *_: next(swapped))
    with pytest.raises(TicketError, match="another number of weights in a, b"):
        CONTROLS["shuffled_in_layers"](ticket, seed=0)
    monkeypatch.setattr(module, "moved", lambda mask, *_: ~mask)
    with pytest.raises(TicketError, match="shuffled_globally keeps 5 weights instead of 3"):
        CONTROLS["shuffled_globally"](ticket, seed=0)


def test_weights_that_were_not_drawn_again_are_caught(monkeypatch):
    ticket, _ = found()
    monkeypatch.setattr(module, "grow_all", lambda weights, seed: grow_all(weights, ticket.seed))
    with pytest.raises(TicketError, match="drew the same weights again"):
        CONTROLS["reinitialised"](ticket, seed=0)


def test_new_weights_under_another_mask_are_caught(monkeypatch):
    def redrawn(ticket, **changes):
        return replace(ticket, masks={name: ~mask for name, mask in ticket.masks.items()}, **changes)

    monkeypatch.setattr(module, "replace", redrawn)
    with pytest.raises(TicketError, match="reinitialised moved 6 mask entries, but must leave the masks alone"):
        CONTROLS["reinitialised"](flat_ticket(a=[1, 0, 0], b=[1, 1, 0]), seed=0)


def test_random_masks_that_are_the_tickets_own_are_caught(monkeypatch):
    ticket = flat_ticket(a=[1, 0, 0, 0])
    monkeypatch.setattr(module, "shuffled", lambda mask, *_: ticket.masks["a"])
    with pytest.raises(TicketError, match="random_uniform moved no mask entry"):
        CONTROLS["random_uniform"](ticket, seed=0)


@pytest.mark.parametrize("density", [0.0, 1.0])
@pytest.mark.parametrize("name", CONTROLS)
def test_where_nothing_can_move_nothing_is_refused(name, density):
    ticket, scores = found(density=density)
    made = CONTROLS[name](ticket, seed=0, scores=scores)
    assert not changed(ticket, made).total


def test_tickets_of_two_networks_are_not_compared():
    with pytest.raises(TicketError, match="masks of other layers"):
        changed(flat_ticket(a=[1, 0]), flat_ticket(a=[1, 0, 0]))


def test_an_unknown_control_and_a_bad_seed_are_refused():
    with pytest.raises(SupermaskError, match=r"Unknown control 'shuffle'; known are reinitialised, shuffled_in_layers"):
        named_control("shuffle")
    with pytest.raises(SupermaskError, match="seed=-1"):
        CONTROLS["random_erk"](found()[0], seed=-1)
