"""Masks of one's own, held while a network is trained."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

import supermask
from supermask import SupermaskError


class Tied(nn.Module):
    """An embedding whose weight is also that of the last layer."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.embed(tokens))


def _trained(model, inputs, steps, project=lambda: None):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        project()
    return model


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0, 1))
def test_a_held_network_trains_as_one_whose_pruned_weights_are_zeroed_after_every_step(seed, density):
    generator = torch.Generator().manual_seed(seed)
    held, slow = (nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)) for _ in range(2))
    slow.load_state_dict(held.state_dict())
    masks = {
        name: torch.rand(p.shape, generator=generator) < density for name, p in held.named_parameters() if p.ndim > 1
    }

    def project():
        with torch.no_grad():
            for name, mask in masks.items():
                slow.get_parameter(name)[~mask] = 0.0

    project()
    inputs = torch.randn(6, 5, generator=generator)
    _trained(slow, inputs, 4, project)
    assert supermask.hold(held, masks) is held
    _trained(held, inputs, 4)
    for name in masks:
        module, leaf = held.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        parametrize.remove_parametrizations(module, leaf)
    for name, parameter in held.named_parameters():
        if name in masks:
            torch.testing.assert_close(parameter[masks[name]], slow.get_parameter(name)[masks[name]])
            assert not parameter[~masks[name]].any()
        else:
            torch.testing.assert_close(parameter, slow.get_parameter(name))


def test_an_optimizer_made_before_goes_on_and_tied_weights_have_one_mask():
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    mask = torch.rand(7, 4) < 0.5
    supermask.hold(model, {"head.weight": mask})  # the second of its two names
    before = model.head.weight.detach().clone()
    for _ in range(2):
        model(torch.arange(7)).square().mean().backward()
        optimizer.step()
    assert model.embed.weight is not None
    assert torch.equal(model.embed.weight, model.head.weight)
    assert not model.head.weight[~mask].any()
    assert not torch.equal(model.head.weight, before)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"no_such_name": torch.ones(7, 4, dtype=torch.bool)}, "no parameter 'no_such_name'.*it has embed.weight"),
        ({"embed.weight": torch.ones(4, 7, dtype=torch.bool)}, r"shape \(4, 7\); give torch.bool of shape \(7, 4\)"),
        ({"embed.weight": torch.ones(7, 4)}, "is a torch.float32 tensor"),
        ({name: torch.ones(7, 4, dtype=torch.bool) for name in ("embed.weight", "head.weight")}, "one tied parameter"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_the_model_plain(masks, message):
    model = Tied()
    with pytest.raises(SupermaskError, match=message):
        supermask.hold(model, masks)
    assert not any(map(parametrize.is_parametrized, model.modules()))


def test_a_model_is_held_once():
    model = supermask.hold(nn.Linear(3, 2), {"weight": torch.ones(2, 3, dtype=torch.bool)})
    with pytest.raises(SupermaskError, match="already parametrized"):
        supermask.hold(model, {})
