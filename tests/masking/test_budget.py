import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from supermask import EdgePopup, models
from supermask.errors import SupermaskError
from supermask.masking.budget import (
    ERK,
    SCOPES,
    Budget,
    Global,
    PerLayer,
    Pool,
    SmartRatio,
    checked_density,
    named_scope,
)
from supermask.masking.selection import Selection

SIZES = st.integers(0, 6)
SHAPES = st.lists(st.lists(SIZES, max_size=4).map(tuple) | st.just((1,)) | st.just((1, 1)), min_size=1, max_size=6).map(
    lambda shapes: {f"layer{index}": shape for index, shape in enumerate(shapes)}
)
DENSITIES = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.0, 1.0)


def count(shapes):
    return sum(math.prod(shape) for shape in shapes.values())


def select(pool, scores):
    masks = {name: torch.ones(tensor.shape, dtype=torch.bool) for name, tensor in scores.items()}
    Selection(signed=True).select([pool], scores, masks)
    return masks


def kept_by_layer(pools):
    return {name: pool.kept for pool in pools for name in pool.names}


def global_oracle(scores, kept, floor):
    """The best `floor` of each layer, then the best of the others; ties to the first layer, then the lowest index."""
    entries = [
        (-score, layer, index)
        for layer, one in enumerate(scores.values())
        for index, score in enumerate(one.flatten().tolist())
    ]
    best = sorted(entries)
    chosen = {entry for layer in range(len(scores)) for entry in [e for e in best if e[1] == layer][:floor]}
    chosen |= set([entry for entry in best if entry not in chosen][: kept - len(chosen)])
    return {
        name: torch.tensor([(-score, layer, i) in chosen for i, score in enumerate(one.flatten().tolist())]).bool()
        for layer, (name, one) in enumerate(scores.items())
    }


def erk_oracle(shapes, density):
    """Evci et al. 2020, as in the authors' code but in fractions: one densest layer at a time is made whole."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items() if math.prod(shape)}
    raw = {name: Fraction(sum(shapes[name]) or 1, size) for name, size in sizes.items()}
    whole = set()
    while sparse := [name for name in sizes if name not in whole]:
        room = Fraction(density) * sum(sizes.values()) - sum(sizes[name] for name in whole)
        factor = room / sum(raw[name] * sizes[name] for name in sparse)
        densest = max(sparse, key=raw.__getitem__)
        if factor * raw[densest] <= 1:
            return {name: Fraction(1) if name in whole else factor * raw[name] for name in sizes}
        whole.add(densest)
    return dict.fromkeys(sizes, Fraction(1))


@settings(deadline=None)
@given(SHAPES, DENSITIES, st.sampled_from([PerLayer(), Global(), Global(floor=0), ERK(), SmartRatio()]))
def test_pools_hold_each_layer_once_and_an_integer_count_that_fits(shapes, density, scope):
    pools = scope.pools(shapes, density)
    assert sorted(name for pool in pools for name in pool.names) == sorted(shapes)
    for pool in pools:
        assert isinstance(pool.kept, int)
        assert 0 <= pool.kept <= sum(math.prod(shapes[name]) for name in pool.names)


@settings(deadline=None)
@given(SHAPES, DENSITIES)
def test_each_layer_keeps_its_rounded_share(shapes, density):
    expected = {name: round(density * math.prod(shape)) for name, shape in shapes.items()}
    assert kept_by_layer(PerLayer().pools(shapes, density)) == expected


@settings(deadline=None)
@given(SHAPES, DENSITIES, st.integers(0, 3), st.data())
def test_a_global_budget_takes_the_best_of_all_with_ties_to_the_first_layer(shapes, density, floor, data):
    kept = round(density * count(shapes))
    assume(kept >= sum(min(floor, math.prod(shape)) for shape in shapes.values()))
    number = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, math.inf])
    scores = {
        name: torch.tensor(data.draw(st.lists(number, min_size=math.prod(shape), max_size=math.prod(shape))))
        .float()
        .reshape(shape)
        for name, shape in shapes.items()
    }
    (pool,) = Global(floor=floor).pools(shapes, density)
    masks = select(pool, scores)
    assert {name: mask.shape for name, mask in masks.items()} == shapes
    assert sum(int(mask.sum()) for mask in masks.values()) == kept
    expected = global_oracle(scores, kept, floor)
    assert all(torch.equal(masks[name].flatten(), expected[name]) for name in shapes)


def test_a_floor_that_fills_the_budget_is_kept_to_the_weight():
    scores = {"a": torch.arange(6.0), "b": -torch.ones(2), "c": torch.zeros(1)}
    masks = select(Pool(("a", "b", "c"), kept=5, floor=2), scores)
    assert [mask.int().tolist() for mask in masks.values()] == [[0, 0, 0, 0, 1, 1], [1, 1], [1]]


def test_a_floor_holds_against_infinite_scores():
    masks = select(Pool(("a", "b"), kept=2, floor=1), {"a": torch.full((3,), math.inf), "b": torch.zeros(2)})
    assert [mask.tolist() for mask in masks.values()] == [[True, False, False], [True, False]]


@pytest.mark.parametrize(("kept", "refused"), [(1, True), (2, True), (3, False), (0, False)])
def test_floors_that_do_not_fit_are_refused(kept, refused):
    shapes = {"a": (2, 2), "b": (3,), "none": (0, 5)}
    ask = lambda: Global(floor=2).pools(shapes, (kept + 1 if kept > 2 else kept) / 7)  # noqa: E731
    if refused:
        with pytest.raises(SupermaskError, match=f"budget of {kept} weights cannot keep 2 in each"):
            ask()
    else:
        ask()


def test_a_negative_floor_is_refused():
    with pytest.raises(SupermaskError, match=r"floor=-1\) is negative"):
        Global(floor=-1)


def test_without_a_floor_an_emptied_layer_is_refused_by_name():
    scores = {"a": torch.ones(3), "b": torch.zeros(3), "none": torch.zeros(0)}
    pool = Global().pools({"a": (3,), "b": (3,), "none": (0,)}, 0.5)[0]
    with pytest.raises(SupermaskError, match=r"budget of 3 weights leaves none in b;.*Global\(floor=1\)"):
        select(pool, scores)


def test_the_default_scores_of_conv4_empty_its_widest_layer_at_a_low_global_density():
    with pytest.raises(SupermaskError, match=r"leaves none in classifier\.0\.weight;"):
        EdgePopup(models.build("conv4"), density=0.05, scope="global")
    search = EdgePopup(models.build("conv4"), density=0.05, scope=Global(floor=3))
    kept = {name: int(mask.sum()) for name, mask in search.masks().items()}
    assert kept["classifier.0.weight"] == 3
    assert sum(kept.values()) == round(0.05 * 2_425_024)


@settings(deadline=None, max_examples=300)
@given(SHAPES, DENSITIES)
def test_erk_densities_are_those_of_the_paper(shapes, density):
    found = ERK().layer_densities(shapes, density)
    expected = erk_oracle(shapes, density)
    assert found.keys() == shapes.keys()
    assert all(found[name] == pytest.approx(float(share), abs=1e-9) for name, share in expected.items())


@settings(deadline=None, max_examples=300)
@given(SHAPES, DENSITIES)
def test_erk_counts_are_near_their_share_and_add_up(shapes, density):
    kept = kept_by_layer(ERK().pools(shapes, density))
    assert sum(kept.values()) == round(density * count(shapes))
    for name, share in erk_oracle(shapes, density).items():
        size = math.prod(shapes[name])
        assert 0 <= kept[name] <= size
        assert abs(kept[name] - share * size) < 1 + 1e-9


def test_erk_on_three_layers_worked_by_hand():
    # ratios 9/20, 14/40 and 1; at 0.5 of 66 weights the last is whole and 27 are shared as 9 : 14
    shapes = {"a": (4, 5), "b": (10, 4), "c": (2, 3)}
    assert kept_by_layer(ERK().pools(shapes, 0.5)) == {"a": 11, "b": 16, "c": 6}


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(4, 5), (1,), (1, 1), (), (0, 3)])
def test_erk_on_one_layer_is_the_layers_own_share(shape, density):
    assert kept_by_layer(ERK().pools({"a": shape}, density)) == {"a": round(density * math.prod(shape))}


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        (0.04, (7, 7, 0)),  # 14 weights, less than 0.3 * 50: 12 : 6 : 2 for all, 6.72, 6.72 and 0.56
        (0.1, (10, 10, 15)),  # 20 left for 12 * 100 : 6 * 200
        (0.2, (28, 27, 15)),  # 27.5 each; the first takes the odd one
        (0.8, (100, 165, 15)),  # the first would have 1.325 of its weights
        (0.95, (100, 200, 32)),  # 332 in all, and the first two are whole
        (0.0, (0, 0, 0)),
        (1.0, (100, 200, 50)),
    ],
)
def test_smart_ratios_on_three_layers_worked_by_hand(density, expected):
    shapes = {"a": (10, 10), "b": (20, 10), "c": (5, 10)}
    assert tuple(kept_by_layer(SmartRatio().pools(shapes, density)).values()) == expected


def test_smart_ratios_are_those_of_the_formula():
    shapes = {f"layer{layer}": (100 * layer, 10) for layer in range(1, 7)}
    found = SmartRatio().layer_densities(shapes, 0.1)
    first, *others = list(found.values())[:-1]
    assert [one / first for one in others] == pytest.approx(
        [((6 - layer + 1) ** 2 + (6 - layer + 1)) / 42 for layer in range(2, 6)]
    )
    assert found["layer6"] == pytest.approx(0.3)
    assert sum(found[name] * math.prod(shape) for name, shape in shapes.items()) == pytest.approx(0.1 * count(shapes))


@settings(deadline=None, max_examples=300)
@given(SHAPES, DENSITIES)
def test_smart_ratio_counts_are_near_their_share_and_add_up(shapes, density):
    kept = kept_by_layer(SmartRatio().pools(shapes, density))
    assert sum(kept.values()) == round(density * count(shapes))
    for name, share in SmartRatio().layer_densities(shapes, density).items():
        size = math.prod(shapes[name])
        assert 0 <= kept[name] <= size
        assert abs(kept[name] - share * size) < 1 + 1e-9


def test_own_densities_apply_by_pattern_and_the_first_that_matches_counts():
    shapes = {"stem": (10,), "block.a": (10,), "block.b": (20,), "head": (30,)}
    budget = Budget(Global(floor=0), {"block.b": 0.1, "block.*": 0.5, "hea?": 1})
    shared, *own = budget.pools(shapes, 0.2)
    assert (shared.names, shared.kept) == (("stem",), 2)
    assert kept_by_layer(own) == {"block.b": 2, "block.a": 5, "head": 30}
    assert budget.fractions(shapes, 0.2) == {"stem": 0.2, "block.b": 0.1, "block.a": 0.5, "head": 1.0}


def test_fractions_are_those_of_the_whole_weights_that_are_kept():
    shapes = {"a": (3,), "b": (30,)}
    assert Budget(PerLayer()).fractions(shapes, 0.05) == {"a": 0.0, "b": 2 / 30}  # 1.5 is rounded to 2
    assert Budget(Global()).fractions(shapes, 0.05) == {"a": 2 / 33, "b": 2 / 33}  # they compete for 2 of 33


@pytest.mark.parametrize("scope", [kind() for kind in SCOPES.values()])
def test_every_layer_may_have_a_density_of_its_own(scope):
    assert kept_by_layer(Budget(scope, {"*": 0.5}).pools({"a": (4,), "b": (6,)}, 0.9)) == {"a": 2, "b": 3}


def test_an_own_density_for_no_layer_is_refused():
    with pytest.raises(SupermaskError, match=r"own_density: 'c\*' matches no parameter; there are a, b"):
        Budget(PerLayer(), {"c*": 0.5}).pools({"a": (4,), "b": (6,)}, 0.5)


@pytest.mark.parametrize("density", [-0.1, 1.1, math.nan, math.inf, True, "0.5", None])
def test_a_density_out_of_range_is_refused(density):
    with pytest.raises(SupermaskError, match=r"density=.* is out of range"):
        checked_density(density)
    with pytest.raises(SupermaskError, match=r"own_density\['a'\]=.* is out of range"):
        Budget(PerLayer(), {"a": density})


def test_scopes_are_known_by_name():
    assert [named_scope(name) for name in ("layer", "global", "erk", "smart_ratio")] == [
        PerLayer(),
        Global(),
        ERK(),
        SmartRatio(),
    ]
    assert named_scope(Global(floor=2)) == Global(floor=2)
    with pytest.raises(SupermaskError, match="Unknown scope 'layers'; known are layer, global, erk, smart_ratio"):
        named_scope("layers")
