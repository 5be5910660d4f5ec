"""Recipes that belong to methods: what a recipe leaves open is filled in, and no search fails by its default one."""

from dataclasses import replace

import pytest
from searches import LINES

from supermask import data
from supermask.models import build
from supermask.runs import METHODS, Job, SearchOptions
from supermask.search import SEARCHES, EdgePopup, GemMiner, IteRand, LearnedSupermask
from supermask.search.gem_miner import GemMinerRule
from supermask.search.rule import BudgetedRule
from supermask.training import Recipe, train


@pytest.mark.parametrize("density", [0.5, pytest.param(0.1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SEARCHES)
def test_the_default_recipe_of_every_search_learns_the_digits(name, density):
    rule = METHODS[name]
    if density != 0.5 and not isinstance(rule, BudgetedRule):
        pytest.skip("its density is an outcome")
    digits, recipe = data.load("digits", seed=0), Recipe(epochs=20, batch_size=64, best="auto")
    steps = recipe.steps(len(digits.train))
    model = build("lenet_300_100", input_shape=digits.input_shape)
    search = SearchOptions(density=density).start(rule, model, 0, rule.recipe(recipe), steps)
    assert train(search, digits, recipe, seed=0, progress=False).test.accuracy > 0.8


def test_what_a_recipe_says_counts_and_what_it_leaves_open_is_the_searches_own():
    low, half = (EdgePopup(build("lenet_300_100", width=0.1), density=density) for density in (0.02, 0.5))
    assert (low.recipe(Recipe()).peak, low.recipe(Recipe()).warm_up) == (0.02, 0.4)
    assert half.recipe(Recipe()).peak == 0.1
    assert low.recipe(Recipe(learning_rate=0.3, warm_up=0)).peak == 0.3
    assert low.recipe(Recipe(learning_rate=0.3, warm_up=0)).warm_up == 0
    plain = EdgePopup(build("lenet_300_100", width=0.1), density=0.02, scaled=False)
    assert plain.recipe(Recipe()).peak == 0.1, "weights that are not scaled have no larger gradients"


def test_scores_on_another_scale_have_their_own_rate():
    learned = LearnedSupermask(build("lenet_300_100", width=0.1))
    assert learned.recipe(Recipe(learning_rate=0.1)).peak == 400.0
    assert GemMinerRule(density=0.04, steps=9).recipe(Recipe()).peak == 0.8
    assert GemMinerRule(density=0.5, steps=9).recipe(Recipe()).peak == 2.0


def test_the_loop_asks_the_search():
    digits = data.load("digits", seed=0)
    search = IteRand(build("lenet_300_100", input_shape=digits.input_shape, width=0.1), density=0.5)
    found = train(search, digits, Recipe(iterations=5, decay="constant"), seed=0, progress=False)
    assert found.history[-1]["learning_rate"] == 0.3


@pytest.mark.parametrize("name", [name for name, way in METHODS.items() if "published" in way.settings])
def test_a_published_setting_replaces_what_it_names(name):
    setting = METHODS[name].settings["published"]
    job = Job(method=name, setting="published", search=SearchOptions(density=0.3)).settled()
    assert {key: getattr(job.recipe, key) for key in setting.recipe} == dict(setting.recipe)
    own = {part.name for part in METHODS[name].own_fields()}
    for option, value in setting.options.items():
        assert getattr(job.algorithm if option in own else job.search, option) == value
    assert job.settled() == job
    assert job.config()["setting"] == "published"


def _shared_options(rule):
    """Return the options that other searches have too, names resolved; a run gives the density and the steps."""
    left = set(rule.common_names()) - {"density", "steps", "total_rate", "scope", "weights"}
    scope = rule.budget.scope if isinstance(rule, BudgetedRule) else None
    return scope, rule.distribution, {name: getattr(rule, name) for name in left}


@pytest.mark.parametrize("name", SEARCHES)
def test_what_a_run_does_not_ask_for_is_the_searches_own(name):
    rule = METHODS[name]
    for options in (SearchOptions(density=0.5), SearchOptions(density=0.5).settle(rule)):
        started = options.start(rule, build("lenet_300_100", width=0.1), 0, Recipe(), 9).rule
        assert _shared_options(started) == _shared_options(rule)


def test_a_record_names_the_scope_and_the_weights_that_a_search_has_by_itself():
    gem, edge = (Job(method=name).config()["search"] for name in ("gem_miner", "edge_popup"))
    assert (gem["scope"], gem["floor"]) == ("global", 1)
    assert (edge["scope"], edge["floor"], edge["weights"]) == ("layer", None, "signed_constant")
    layer = Job(method="gem_miner", search=SearchOptions(scope="layer")).config()["search"]
    assert (layer["scope"], layer["floor"]) == ("layer", None)


def test_a_run_and_a_search_of_ones_own_have_one_recipe():
    job = Job(search=SearchOptions(density=0.04)).settled()
    own = EdgePopup(build("lenet_300_100", width=0.1), density=0.04).recipe(Recipe())
    assert replace(job.recipe, epochs=own.epochs) == own


def test_gem_miners_pull_does_not_depend_on_the_length_of_a_run():
    totals = [GemMinerRule(density=0.1).recipe(Recipe()).total_rate(steps) for steps in (100, 1000)]
    penalties = [
        GemMiner(build("lenet_300_100", width=0.1), density=0.1, steps=steps).options["penalty"]
        for steps in (100, 1000)
    ]
    assert [2.0 * penalty * total_rate for penalty, total_rate in zip(penalties, totals, strict=True)] == pytest.approx(
        [1, 1]
    )


def test_every_search_has_a_line_and_a_setting():
    assert {line.search for line in LINES.values()} == set(SEARCHES.values())
    assert all("short" in search.kind.settings for search in SEARCHES.values())
