"""The group lasso against sums over lists and finite differences, and the run around it."""

import math
from dataclasses import replace

import pytest
import torch
from works import work_on

from supermask import SupermaskError, models
from supermask.baselines.channel_pruning.filter_pruning import largest_filters
from supermask.baselines.channel_pruning.structured_sparsity import (
    StructuredSparsity,
    group_lasso,
    group_lasso_slope,
)
from supermask.training import Recipe


def _lenet():
    return models.build("lenet_300_100", width=0.1, input_shape=(1, 8, 8))


def _slowly(weight):
    """Add up the roots of the sums of squares of filters and of input channels."""
    rows = [filter_.flatten().tolist() for filter_ in weight]
    columns = [weight[:, c].flatten().tolist() for c in range(weight.shape[1])]
    return sum(math.sqrt(sum(value**2 for value in group)) for group in rows + columns)


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2, 2), (2, 3, 2)])
def test_the_lasso_is_a_sum_of_roots_and_its_slope_that_of_differences(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64)
    weight[1] = 0.0  # a filter of zeros
    assert float(group_lasso(weight)) == pytest.approx(_slowly(weight))
    slope = group_lasso_slope(weight)
    assert torch.isfinite(slope).all()
    assert not slope[1].any()
    for place in (0, 1, 3):
        moved = [weight.clone() for _ in range(2)]
        moved[0].view(-1)[place] += 1e-6
        moved[1].view(-1)[place] -= 1e-6
        difference = (_slowly(moved[0]) - _slowly(moved[1])) / 2e-6
        assert float(slope.view(-1)[place]) == pytest.approx(difference, rel=1e-5)


def test_the_lasso_draws_filters_towards_zero():
    def norms(strength):
        work = work_on(_lenet, Recipe(epochs=3, batch_size=100))
        dense = StructuredSparsity(strength=strength).dense(work, ["fc1", "fc2"])
        work.train(dense)
        return dense.model.fc1.weight.detach().norm(dim=1)

    free, drawn = norms(0.0), norms(0.05)
    assert drawn.max() < free.min()


def test_a_run_removes_the_filters_of_smallest_l2_norm():
    work = work_on(_lenet, Recipe(epochs=1, batch_size=100))
    method = StructuredSparsity(strength=0.01, retrain=0.0)
    found = method.run(work)
    dense = method.dense(work, ["fc1", "fc2"])
    work.train(dense)
    norms = dense.model.fc1.weight.detach().norm(dim=1)
    kept = largest_filters(dense.model, ["fc1", "fc2"], 0.5, order=2)
    assert kept["fc1"].nonzero().flatten().tolist() == sorted(norms.argsort(descending=True)[:15].tolist())
    assert torch.equal(found.subject.model.fc2.weight, dense.model.fc2.weight[kept["fc2"]][:, kept["fc1"]])
    assert found.details.filters["fc1"] == (15, 30)
    assert found.subject.ticket().provenance["algorithm"] == "structured_sparsity"


def test_without_a_lasso_it_trains_as_filter_pruning():
    work = work_on(_lenet, Recipe(epochs=1, batch_size=100))
    plain = work.train(StructuredSparsity(strength=0.0).dense(work, ["fc1"]))
    assert plain.test == work.train(replace(StructuredSparsity(), strength=0.0).dense(work, ["fc2"])).test


@pytest.mark.parametrize("options", [{"strength": -1.0}, {"strength": math.nan}, {"rate": 0.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SupermaskError, match=r"strength=|rate="):
        StructuredSparsity(**options)
