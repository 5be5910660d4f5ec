"""Low-rank layers: equal at full rank, nearest at any, counted exactly, and trained from a warm-up."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import SupermaskError, data, models
from supermask.baselines.dense import Dense
from supermask.baselines.low_rank import Pufferfish
from supermask.baselines.low_rank.factors import factor_weights, factored, ranks_at, ranks_for, with_factors
from supermask.baselines.method import RunContext
from supermask.training import Recipe, train


def work(build, recipe, density):
    data_set = data.load("synthetic", seed=0)
    return RunContext(
        data=data_set,
        recipe=recipe,
        seed=0,
        density=density,
        device=torch.device("cpu"),
        build=build,
        loop=lambda subject, recipe, **more: train(subject, data_set, recipe, progress=False, **more),
    )


def lenet():
    return models.build("lenet_300_100", width=0.2, input_shape=(1, 8, 8))


LAYERS = [
    (lambda: nn.Linear(7, 5), (3, 7)),
    (lambda: nn.Linear(3, 8, bias=False), (3, 3)),
    (lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1), (2, 3, 7, 6)),
    (lambda: nn.Conv2d(4, 5, (3, 1), dilation=2, padding=2, padding_mode="circular", bias=False), (2, 4, 8, 8)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_at_full_rank_it_is_the_layer(make, shape):
    layer = make().double()
    rank = min(layer.weight.flatten(1).shape)
    pair, inputs = factored(layer, rank), torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(pair(inputs), layer(inputs), rtol=1e-10, atol=1e-12)
    weights = sum(parameter.numel() for name, parameter in pair.named_parameters() if name.endswith("weight"))
    assert weights == factor_weights(tuple(layer.weight.shape), rank)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_below_it_is_the_nearest(make, shape):
    """The squared error of the best matrix of rank r is the sum of the squared singular values beyond r."""
    layer = make().double()
    pair = factored(layer, 2)
    product = pair[1].weight.flatten(1) @ pair[0].weight.flatten(1)
    left_over = torch.linalg.svdvals(layer.weight.flatten(1))[2:].square().sum()
    torch.testing.assert_close((product - layer.weight.flatten(1)).square().sum(), left_over)
    sizes = [pair[0].weight.flatten(1).norm(dim=1), pair[1].weight.flatten(1).norm(dim=0)]
    torch.testing.assert_close(sizes[0], sizes[1])  # each factor has the root of the singular value


@given(
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 9])), min_size=1, max_size=4),
    fraction=st.floats(0.0, 1.0),
)
@settings(max_examples=100, deadline=None)
def test_the_ratio_is_the_largest_that_fits(shapes, fraction):
    named = {str(place): shape for place, shape in enumerate(shapes)}
    whole = {name: o * i * k for name, (o, i, k) in named.items()}

    def size(ratio):
        total = 0
        for name, (o, i, k) in named.items():
            rank = max(1, round(ratio * min(o, i)))
            total += min(whole[name], rank * (o + i * k))
        return total

    least = size(0.0)
    weights = least + int(fraction * (sum(whole.values()) - least))
    ratio, ranks = ranks_for(named, weights)
    assert ranks == ranks_at(named, ratio)
    assert size(ratio) <= weights
    assert ratio == 1.0 or size(ratio + 1e-6) > weights or size(1.0) <= weights
    with pytest.raises(SupermaskError, match="Rank 1 in every layer takes"):
        ranks_for(named, least - 1)


def test_vgg_has_the_parameters_of_the_paper():
    """Pufferfish's VGG-19: a quarter of the width from the tenth convolution on: 20.55 to 8.36 million.

    Theirs has two more fully connected layers of 512 x 512, of 256 x 512 as factors: 525,312 and 263,168 numbers.
    """
    with torch.device("meta"):
        model = models.build("vgg19")
    shapes = {
        name: tuple(module.weight.shape) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    }
    ranks = ranks_at(dict([*shapes.items()][9:]), 0.25)
    every = sum(parameter.numel() for parameter in model.parameters())
    saved = sum(shapes[name][0] * shapes[name][1] * 9 - factor_weights(shapes[name], r) for name, r in ranks.items())
    assert set(ranks.values()) == {128}
    assert (every + 525_312) / 1e6 == pytest.approx(20.56, abs=0.02)
    assert (every - saved + 263_168) / 1e6 == pytest.approx(8.37, abs=0.02)


def test_a_run_warms_up_whole_and_trains_the_factors_on():
    recipe = Recipe(epochs=2, batch_size=100, weight_decay=0.0)
    task = work(lenet, recipe, 0.5)
    found = Pufferfish(warm_up=0.5).run(task)
    steps = task.steps // 2
    assert found.details.warm_up == steps
    assert found.outcome.history[0]["step"] == steps
    prunable = sum(mask.numel() for mask in task.whole.masks.values())
    weights = sum(parameter.numel() for parameter in found.subject.model.parameters() if parameter.ndim > 1)
    assert weights <= 0.5 * prunable
    # the start of the second part is the nearest network of those ranks to the warmed one
    dense = Dense(lenet(), seed=0)
    warm = replace(recipe, iterations=steps, decay="constant", warm_up=0)
    dense.load_state_dict(task.train(dense, recipe=warm).last)
    still = Pufferfish(warm_up=0.5).run(replace(task, recipe=replace(recipe, learning_rate=None)))
    start = with_factors(dense.model, found.details.ranks)
    assert still.details.after.parameters == sum(parameter.numel() for parameter in start.parameters())
    assert found.outcome.history[0]["validation_loss"] == still.outcome.history[0]["validation_loss"]


def test_at_density_one_nothing_is_factored_and_the_training_goes_on():
    found = Pufferfish(warm_up=0.5).run(work(lenet, Recipe(epochs=2, batch_size=100, decay="constant"), 1.0))
    assert found.details.ranks == {}
    assert found.details.after == found.details.before


@pytest.mark.parametrize(
    ("options", "density", "says"),
    [
        ({"whole": 2}, 0.5, "the network has 3 layers that can be factored"),
        ({"whole": 1}, 0.1, "give a larger density, or keep fewer layers whole"),
    ],
)
def test_what_cannot_be_is_refused(options, density, says):
    with pytest.raises(SupermaskError, match=says):
        Pufferfish(**options).run(work(lenet, Recipe(epochs=1, batch_size=100), density))


@pytest.mark.parametrize("options", [{"warm_up": 1.0}, {"whole": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SupermaskError, match="do not fit"):
        Pufferfish(**options)
