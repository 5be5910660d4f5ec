"""Every criterion weight by weight, against the formulas of the paper written out in Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supermask.baselines.heuristic.criteria import CRITERIA, layer_scores
from supermask.masking.budget import Pool
from supermask.masking.pruning import prune
from supermask.random.keyed import keyed_permutation

SIGNS = ("any", "same", "different")
NEGATIVE = {"small_final", "small_init"}


def smaller(values):
    return [sum(other < value for other in values) for value in values]


def formula(criterion, initial, final, lot):
    """Return the scores of a layer: lists of numbers in, a list out."""
    larger_i, larger_f = smaller([abs(i) for i in initial]), smaller([abs(f) for f in final])
    smaller_i, smaller_f = smaller([-abs(i) for i in initial]), smaller([-abs(f) for f in final])
    return {
        "large_final": [abs(f) for f in final],
        "small_final": [-abs(f) for f in final],
        "large_init": [abs(i) for i in initial],
        "small_init": [-abs(i) for i in initial],
        "large_init_large_final": [min(pair) for pair in zip(larger_i, larger_f, strict=True)],
        "small_init_small_final": [min(pair) for pair in zip(smaller_i, smaller_f, strict=True)],
        "magnitude_increase": [abs(f) - abs(i) for i, f in zip(initial, final, strict=True)],
        "movement": [abs(f - i) for i, f in zip(initial, final, strict=True)],
        "random": lot,
    }[criterion]


def sign(number):
    return (number > 0) - (number < 0)


def by_hand(criterion, which, initial, final, k, lot):
    """Return the places that are kept: by score, where a wrong sign scores zero and zeros go by lot."""
    scores = formula(criterion, initial, final, lot)

    def turn(place):
        wrong = which != "any" and (sign(initial[place]) == sign(final[place])) != (which == "same")
        lots = lot[place] if wrong else 0
        score = 0.0 if wrong else scores[place]
        return (wrong, -score, lots, place) if criterion in NEGATIVE else (-score, wrong, lots, place)

    return set(sorted(range(len(initial)), key=turn)[:k])


def masked(criterion, which, initial, final, k, seed=0):
    scores = layer_scores(criterion, which, initial, final, seed, "w")
    assert scores.dtype is torch.float64
    return prune({"w": scores}, [Pool(("w",), k)])["w"]


def random_layer(count=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    initial = torch.randn(count, generator=generator)
    return initial, 0.8 * initial + 0.7 * torch.randn(count, generator=generator)


NUMBER = st.one_of(st.sampled_from([0.0, -0.5, 0.5, 1.0, -1.0]), st.floats(-2, 2, width=32))
LAYERS = st.integers(1, 30).flatmap(lambda n: st.tuples(*2 * [st.lists(NUMBER, min_size=n, max_size=n)]))


@pytest.mark.parametrize("which", SIGNS)
@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=25, deadline=None)
@given(layer=LAYERS, share=st.floats(0, 1), seed=st.integers(0, 5))
def test_the_weights_that_the_formula_ranks_first_are_kept(criterion, which, layer, share, seed):
    initial, final = (torch.tensor(values, dtype=torch.float32) for values in layer)
    k = round(share * len(initial))
    lot = keyed_permutation(len(initial), seed, "heuristic", "w").tolist()
    found = masked(criterion, which, initial, final, k, seed)
    assert set(found.nonzero()[:, 0].tolist()) == by_hand(criterion, which, initial.tolist(), final.tolist(), k, lot)


@pytest.mark.parametrize("which", SIGNS)
@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=10, deadline=None)
@given(shape=st.lists(st.integers(0, 5), max_size=4), share=st.floats(0, 1))
def test_any_shape_keeps_the_exact_number(criterion, which, shape, share):
    initial, final = torch.randn(shape), torch.randn(shape)
    k = round(share * initial.numel())
    found = masked(criterion, which, initial, final, k)
    assert found.shape == initial.shape
    assert int(found.sum()) == k


@pytest.mark.parametrize(("criterion", "large"), [("large_init_large_final", True), ("small_init_small_final", False)])
@pytest.mark.parametrize("seed", range(5))
def test_both_thresholds_are_at_one_percentile_as_an_alpha_would_have_them(criterion, large, seed):
    """min(alpha |w_f|, |w_i|) and -max(alpha |w_f|, |w_i|), alpha the ratio of the two quantiles at the density."""
    initial, final = random_layer(seed=seed)
    both = torch.stack([initial.abs(), final.abs()]).double()
    ordered = both.sort(dim=1, descending=large).values
    tried = 0
    for place in range(20, 400, 20):
        reference = ordered[:, place - 1]
        within = (both >= reference[:, None]).all(0) if large else (both <= reference[:, None]).all(0)
        alpha = reference[0] / reference[1]
        score = torch.minimum(alpha * both[1], both[0]) if large else -torch.maximum(alpha * both[1], both[0])
        k = int(within.sum())
        chosen = masked(criterion, "any", initial, final, k)
        assert torch.equal(chosen, within)
        # the product rounds, so the two at the threshold are left out of the comparison
        clear = (score.abs() - reference[0]).abs() > 1e-9
        assert torch.equal(chosen[clear], (score >= (reference[0] if large else -reference[0]))[clear])
        tried += 0 < k < 400
    assert tried > 10


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_sign_that_is_asked_for_comes_first_and_the_number_is_made_up_by_lot(criterion):
    initial, final = random_layer()
    same = initial.sign() == final.sign()
    for which, right in (("same", same), ("different", ~same)):
        positive = right & (layer_scores(criterion, "any", initial, final, 0, "w") >= 0)
        first = int(right.sum() if criterion in NEGATIVE else positive.sum())
        assert 0 < first < 400
        assert not bool((masked(criterion, which, initial, final, first) & ~right).any())
        more = masked(criterion, which, initial, final, first + 10)
        assert int((more & ~right).sum()) == 10
        other = masked(criterion, which, initial, final, first + 10, seed=1)
        assert not torch.equal(more & ~right, other & ~right)


def test_where_too_few_kept_their_sign_zero_comes_before_the_weights_that_shrank():
    initial, final = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, -3.0, 0.5])
    assert masked("magnitude_increase", "same", initial, final, 1).tolist() == [True, False, False]
    assert masked("magnitude_increase", "same", initial, final, 2).tolist() == [True, True, False]
    assert masked("small_final", "same", initial, final, 2).tolist() == [True, False, True]


def test_random_masks_depend_on_the_seed_and_the_name_alone():
    initial, final = random_layer()
    scores = layer_scores("random", "any", initial, final, 3, "w")
    assert torch.equal(scores, layer_scores("random", "any", final, initial, 3, "w"))
    assert not torch.equal(scores, layer_scores("random", "any", initial, final, 4, "w"))
    assert not torch.equal(scores, layer_scores("random", "any", initial, final, 3, "v"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_differences_are_not_rounded_to_the_type_of_the_weights(dtype):
    initial = torch.tensor([1.0, 1.0], dtype=dtype)
    final = torch.tensor([2.0, -1.0], dtype=dtype)
    assert layer_scores("movement", "any", initial, final, 0, "w").tolist() == [1.0, 2.0]
