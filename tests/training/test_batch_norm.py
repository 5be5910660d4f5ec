import torch
from torch import nn

from supermask.training import reestimate


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(27, 2))


def test_statistics_are_the_averages_over_the_batches():
    model = small()
    batches = [torch.randn(8, 2, 5, 5) + i for i in range(4)]
    reestimate(model, batches)
    with torch.no_grad():
        inside = [model[0](batch) for batch in batches]
    means = torch.stack([x.mean((0, 2, 3)) for x in inside]).mean(0)
    variances = torch.stack([x.var((0, 2, 3)) for x in inside]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means)
    torch.testing.assert_close(model[1].running_var, variances)


def test_what_was_there_before_leaves_no_trace():
    batches = [torch.randn(8, 2, 5, 5) for _ in range(3)]
    one, other = small(), small()
    other[1].running_mean += 100.0
    other[1].num_batches_tracked += 1000
    reestimate(one, batches)
    reestimate(other, batches)
    assert torch.equal(one[1].running_mean, other[1].running_mean)
    assert torch.equal(one[1].running_var, other[1].running_var)


def test_modes_momentum_and_random_state_stay_as_they_were():
    model = small()
    model[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    reestimate(model, [torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(0))])
    assert [module.training for module in model.modules()] == modes
    assert model[1].momentum == 0.1
    assert torch.equal(torch.get_rng_state(), state)  # dropout did not run


def test_a_model_without_statistics_is_not_run():
    def fail():
        raise AssertionError("a batch was asked for")
        yield

    reestimate(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), fail())
