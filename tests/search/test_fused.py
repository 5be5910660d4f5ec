"""SGD fused with a search: one pass gives what autograd, SGD and the selection give apart."""

from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supermask import EdgePopup, SupermaskError, data
from supermask.masking.budget import Global
from supermask.masking.kernels import counting
from supermask.masking.schedule import CubicRamp
from supermask.runs import METHODS
from supermask.search import Search
from supermask.training import Recipe, train

NUMBERS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}
CASES = {
    "magnitude": {},
    "signed": {"score": "signed"},
    "global": {"scope": "global", "equalised": True},
    "floor": {"scope": Global(floor=3)},
    "ramp": {"schedule": CubicRamp(6)},
    "learned": {"bias": "learned", "norm": "learned"},
}


def searching(**options):
    """A search over layers below and above the size from which thresholds are looked for in windows."""
    network = nn.Sequential(
        nn.Conv2d(3, 40, 3),
        nn.BatchNorm2d(40),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1440, 16),
        nn.ReLU(),
        nn.Linear(16, 5),
    )
    return EdgePopup(network, **{"density": 0.2, **options})


def backward(search, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 3, 8, 8, generator=generator).to(next(search.model.parameters()))
    search.model.zero_grad()
    cross_entropy(search.model(images), torch.randint(5, (8,), generator=generator)).backward()


def trained(search):
    return [*search.parameters()]


def fresh_masks(search):
    """The masks of the present scores, by a search that has counted nothing."""
    layers = {name: layer.detach().clone() for name, layer in search.scores().items()}
    state = searching(**{**CASES[search.case], "density": search.density})
    state.steps = search.steps
    state._select(layers)
    return state.masks()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_step_is_that_of_autograd_sgd_and_selection(case, nesterov):
    search, twin = searching(**CASES[case]), searching(**CASES[case])
    search.case = case
    fused, apart = (
        search.fused_sgd(**NUMBERS, nesterov=nesterov),
        torch.optim.SGD(twin.parameters(), **NUMBERS, nesterov=nesterov),
    )
    for step in range(8):
        twin.load_state_dict(search.state_dict())  # so that neither chaos nor rounding adds up
        if step:
            apart.load_state_dict(deepcopy(fused.state_dict()))
        backward(search, step)
        backward(twin, step)
        fused.step()
        apart.step()
        for one, other in zip(trained(search), trained(twin), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
        search.step()
        twin.steps = search.steps
        wanted = fresh_masks(search)
        assert all(torch.equal(mask, wanted[name]) for name, mask in search.masks().items())


def counts(search):
    return search._state._selection._largest._selector._counts[:, counting.COUNTED].tolist()


def test_the_selection_takes_what_the_step_has_counted():
    search = searching()
    optimizer = search.fused_sgd(**NUMBERS)
    for step in range(4):
        backward(search, step)
        optimizer.step()
        search.step()
    backward(search, 4)
    optimizer.step()
    assert counts(search) == [0, 1, 0]  # of the one layer above the size


@pytest.mark.parametrize("told", [True, False])
def test_scores_that_are_changed_after_they_were_counted_are_counted_again(told):
    search = searching()
    search.case = "magnitude"
    optimizer = search.fused_sgd(**NUMBERS)
    for step in range(4):
        backward(search, step)
        optimizer.step()
        with torch.no_grad():
            for score in search.scores().values():
                (score if told else score.data)[:2] *= 1.0 + 0.01 * step
        search.step()
        wanted = fresh_masks(search)
        assert all(torch.equal(mask, wanted[name]) for name, mask in search.masks().items())


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_are_handed_on_in_every_dtype_and_layout(dtype, layout):
    search = searching()
    search.model.to(dtype=dtype, memory_format=layout)
    optimizer = search.fused_sgd(**NUMBERS)
    for step in range(3):
        backward(search, step)
        handed = {name: score.grad.clone() for name, score in search.scores().items()}
        before = {name: score.detach().clone() for name, score in search.scores().items()}
        optimizer.step()
        for name, score in search.scores().items():
            slope = search.frozen_weights()[name] * before[name].sign()
            velocity = optimizer.state[score]["momentum_buffer"]
            close = {"rtol": 2e-2, "atol": 1e-3} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-7}
            if not step:
                torch.testing.assert_close(velocity, handed[name] * slope + 1e-2 * before[name], **close)
            torch.testing.assert_close(score.detach(), before[name] - 0.1 * velocity, **close)
        search.step()
    assert [int(mask.sum()) for mask in search.masks().values()] == [216, 4608, 16]


def test_a_score_that_is_nan_is_refused():
    search = searching()
    optimizer = search.fused_sgd(**NUMBERS)
    for step in range(3):
        backward(search, step)
        if step == 2:
            search.scores()["4.weight"].grad[3, 5] = torch.nan
        optimizer.step()
        if step == 2:
            with pytest.raises(SupermaskError, match=r"1 of 24,?200 scores are NaN"):
                search.step()
        else:
            search.step()


@pytest.mark.parametrize("ended", ["released", "forgotten"])
def test_when_it_ends_gradients_are_those_of_scores_again(ended):
    search, twin = searching(), searching()
    optimizer = search.fused_sgd(**NUMBERS)
    backward(search, 0)
    backward(twin, 0)
    (score, wanted) = next(iter(search.scores().values())), next(iter(twin.scores().values())).grad
    assert not torch.equal(score.grad, wanted)
    if ended == "released":
        optimizer.release()
    else:
        del optimizer
    backward(search, 0)
    assert torch.equal(score.grad, wanted)


def test_a_second_one_takes_over():
    search = searching()
    first = search.fused_sgd(**NUMBERS)
    second = search.fused_sgd(**NUMBERS)
    del first
    backward(search, 0)
    assert all(layer.handed for layer in search._layers.values())
    second.step()
    search.step()


def test_another_optimizer_beside_it_is_refused():
    search = searching()
    fused, other = search.fused_sgd(**NUMBERS), torch.optim.SGD(search.parameters(), lr=0.1)
    for step, optimizer in enumerate((fused, fused, other)):
        backward(search, step)
        optimizer.step()
        if optimizer is other:
            with pytest.raises(SupermaskError, match=r"step that one, or call its release\(\) first"):
                search.step()
        else:
            search.step()
    fused.release()
    search.step()


def test_a_loaded_state_is_no_other_optimizer():
    search = searching()
    optimizer = search.fused_sgd(**NUMBERS)
    for step in range(2):
        backward(search, step)
        optimizer.step()
        search.step()
    search.load_state_dict(search.state_dict())
    search.step()


def kinds():
    return [kind for kind in METHODS.values() if kind.rule is not None and kind.rule is kind]


@pytest.mark.parametrize("rule", kinds(), ids=lambda rule: rule.name)
def test_every_search_is_fused_or_says_that_it_is_not(rule):
    """What is fused gives the scores that SGD gives to the gradients of the search; all else is refused."""
    made = []
    for _ in range(2):
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 60), nn.ReLU(), nn.Linear(60, 5))
        known = {part.name for part in fields(rule)}
        options = {name: value for name, value in {"density": 0.3, "steps": 100}.items() if name in known}
        made.append(Search.of(network, replace(rule, **options)))
    search, twin = made
    if not search.fusible:
        with pytest.raises(SupermaskError, match=f"^{search.name} with these options"):
            search.fused_sgd(**NUMBERS)
        return
    fused, apart = search.fused_sgd(**NUMBERS), torch.optim.SGD(twin.parameters(), **NUMBERS)
    for each, optimizer in ((search, fused), (twin, apart)):
        torch.manual_seed(0)
        backward(each, 0)
        each.before_step(optimizer)
        optimizer.step()
    for one, other in zip(trained(search), trained(twin), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def synthetic():
    return data.load("synthetic", seed=0)


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 10))


def test_train_fuses_where_it_can_and_leaves_the_search_as_it_was(synthetic):
    recipe = Recipe(epochs=3, batch_size=64, fused=True)
    search, plain = EdgePopup(small(), density=0.3), EdgePopup(small(), density=0.3)
    fused = train(search, synthetic, recipe, seed=0)
    apart = train(plain, synthetic, replace(recipe, fused=False), seed=0)
    assert not any(layer.handed for layer in search._layers.values())
    assert fused.test.accuracy > 0.8
    first, second = (outcome.history[1]["train_loss"] for outcome in (fused, apart))
    assert first == pytest.approx(second, rel=0.05)


def test_a_fused_run_that_was_stopped_ends_as_one_that_was_not(synthetic, tmp_path):
    recipe = Recipe(epochs=3, batch_size=64, fused=True)
    whole = EdgePopup(small(), density=0.3)
    train(whole, synthetic, recipe, seed=0)

    class Stopping(EdgePopup, rule=None):
        def step(self):
            super().step()
            if self.steps == 20:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Stopping(small(), density=0.3), synthetic, recipe, seed=0, folder=tmp_path, checkpoint_seconds=0)
    again = EdgePopup(small(), density=0.3)
    train(again, synthetic, recipe, seed=0, folder=tmp_path, resume=True)
    for one, other in zip(trained(whole), trained(again), strict=True):
        assert torch.equal(one, other)


def test_only_sgd_is_fused():
    with pytest.raises(SupermaskError, match="fused=True needs optimizer sgd; this is adam"):
        Recipe(optimizer="adam", fused=True)
