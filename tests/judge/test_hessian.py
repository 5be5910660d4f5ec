"""Both ends and the density of the spectrum, against the whole Hessian of small networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.functional import cross_entropy

from supermask import SupermaskError
from supermask.judge import extreme_eigenvalues, spectral_density
from supermask.random.keyed import keyed_generator


def network(dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    )
    with torch.no_grad():
        model[1].running_mean.uniform_(-1, 1)
    return model.to(dtype)


def batches(sizes=(7, 5), dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, 1, 4, 4, generator=generator, dtype=dtype), torch.randint(0, 4, (n,), generator=generator))
        for n in sizes
    ]


def masks_of(model):
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.rand(each.shape, generator=generator) < 0.5
        for name, each in model.named_parameters()
        if each.ndim >= 2
    }


def whole_hessian(model, examples, masks):
    """Return the Hessian over the kept weights, by torch's own, in float64 from one batch of all examples."""
    parameters = {name: each.detach().double() for name, each in model.named_parameters() if each.requires_grad}
    others = {name: each.double() if each.is_floating_point() else each for name, each in model.named_buffers()}
    others |= {name: each.detach().double() for name, each in model.named_parameters() if not each.requires_grad}
    inputs, labels = (torch.cat(parts) for parts in zip(*examples, strict=True))
    model.eval()

    def loss(values):
        return cross_entropy(functional_call(model, {**values, **others}, (inputs.double(),)), labels)

    found = jacrev(jacrev(loss))(parameters)  # torch's forward mode warns of its own parts
    rows = [
        torch.cat([found[one][other].reshape(parameters[one].numel(), -1) for other in parameters], 1)
        for one in parameters
    ]
    whole = {name: torch.ones_like(each, dtype=torch.bool) for name, each in parameters.items()}
    kept = torch.cat([masks.get(name, mask).flatten() for name, mask in whole.items()])
    return torch.cat(rows)[kept][:, kept].numpy()


@pytest.mark.parametrize(("masked", "count"), [(False, 4), (True, 10)])
def test_both_ends_are_those_of_the_whole_hessian(masked, count):
    model = network()
    masks = masks_of(model) if masked else None
    found = extreme_eigenvalues(model, batches(), masks=masks, count=count)
    values = np.linalg.eigvalsh(whole_hessian(model, batches(), masks or {}))
    assert found.weights == len(values)
    np.testing.assert_allclose(found.highest, values[::-1][:count], rtol=1e-4, atol=1e-5 * values[-1])
    np.testing.assert_allclose(found.lowest, values[:count], rtol=1e-4, atol=1e-5 * values[-1])
    assert values[0] < -0.01 * values[-1]  # else the lower end tests nothing
    assert found.highest[0] > found.highest[-1] > found.lowest[-1] > found.lowest[0]


def test_a_small_hessian_is_taken_whole():
    model = network()
    masks = masks_of(model)
    for name, each in model.named_parameters():
        each.requires_grad_(name == "0.weight")
    found = extreme_eigenvalues(model, batches(), masks={"0.weight": masks["0.weight"]}, count=50)
    values = np.linalg.eigvalsh(whole_hessian(model, batches(), {"0.weight": masks["0.weight"]}))
    assert found.weights == len(values) == int(masks["0.weight"].sum())
    np.testing.assert_allclose(found.lowest, values, rtol=1e-4, atol=1e-6)
    assert found.lowest == found.highest[::-1]


def test_batches_of_any_size_have_the_mean_of_all_examples():
    model = network(torch.float64)
    together = [tuple(torch.cat(parts) for parts in zip(*batches(dtype=torch.float64), strict=True))]
    one, other = (extreme_eigenvalues(model, each, count=2) for each in (iter(batches(dtype=torch.float64)), together))
    np.testing.assert_allclose(one.highest, other.highest, rtol=1e-6)


def test_the_model_is_left_as_it_was():
    model = network().train()
    model[1].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with torch.no_grad():
        extreme_eigenvalues(model, batches(), count=1)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert [module.training for module in model] == [index != 1 for index in range(len(model))]
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[5].weight.grad is None


def test_the_quadrature_has_the_moments_of_each_probe():
    """From a unit vector v, k steps give v' H^m v exactly for all m below 2k; the weights of all probes sum to 1."""
    model = network(torch.float64)
    masks = masks_of(model)
    found = spectral_density(model, batches(dtype=torch.float64), masks=masks, steps=4, probes=3, seed=7)
    matrix = whole_hessian(model, batches(dtype=torch.float64), masks)
    assert found.nodes.shape == found.weights.shape == (3, 4)
    assert found.weights.sum() == pytest.approx(1.0)
    for probe in range(3):
        vector = keyed_generator(7, "hessian", probe).standard_normal(len(matrix))
        vector /= np.linalg.norm(vector)
        for moment in range(8):
            expected = vector @ np.linalg.matrix_power(matrix, moment) @ vector
            assert 3 * found.weights[probe] @ found.nodes[probe] ** moment == pytest.approx(expected, rel=1e-6)


def test_all_steps_find_the_whole_spectrum():
    model = network(torch.float64)
    for name, each in model.named_parameters():
        each.requires_grad_(name == "7.weight")
    masks = {"7.weight": torch.arange(24).reshape(4, 6) % 3 == 0}
    found = spectral_density(model, batches(dtype=torch.float64), masks=masks, steps=99, probes=1)
    values = np.linalg.eigvalsh(whole_hessian(model, batches(dtype=torch.float64), masks))
    # an eigenvalue of several vectors is found once
    for node, weight in zip(found.nodes[0], found.weights[0], strict=True):
        assert weight < 1e-9 or np.abs(values - node).min() < 1e-9
    assert abs(found.nodes[0].max() - values.max()) < 1e-9


def test_the_smoothed_density_has_the_integral_1():
    found = spectral_density(network(), batches(), steps=5, probes=2)
    low, high = found.nodes.min() - 1, found.nodes.max() + 1
    grid = np.linspace(low, high, 2000)
    assert float(found.at(grid, 0.1).sum() * (grid[1] - grid[0])) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: extreme_eigenvalues(m, []), "without examples"),
        (lambda m: extreme_eigenvalues(m, batches(), count=0), "count=0 is out of range"),
        (
            lambda m: extreme_eigenvalues(m, batches(), masks={"x": torch.ones(1) > 0}),
            "The mask of x is not a bool mask",
        ),
        (lambda m: extreme_eigenvalues(m.requires_grad_(False), batches()), "without weights that need a gradient"),
        (lambda m: spectral_density(m, batches(), steps=0), "steps=0 and probes=5"),
    ],
)
def test_what_has_no_hessian_is_refused(call, message):
    with pytest.raises(SupermaskError, match=message):
        call(network())


def test_iterations_that_do_not_converge_are_told(monkeypatch):
    monkeypatch.setattr("supermask.judge.hessian._RESTARTS", 1)
    monkeypatch.setattr("supermask.judge.hessian._TOLERANCE", 1e-14)
    with pytest.raises(SupermaskError, match="of 10 eigenvalues converged"):
        extreme_eigenvalues(network(), batches(), count=10)
