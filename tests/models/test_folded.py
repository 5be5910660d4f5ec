"""Folded networks against a loop that applies one block again and again."""

import pytest
import torch
from torch import nn

from supermask import EdgePopup, SupermaskError, Ticket, models
from supermask.models.folded import folded
from supermask.runs import Job, SearchOptions, run
from supermask.training import Recipe

NAMES = ["folded:resnet20", "folded:wide_resnet_28_2", "folded:torchvision:resnet50"]


def weights_of(model):
    return sum(weight.numel() for weight in model.parameters() if weight.dim() > 1)


def test_a_stage_is_one_block_over_time_with_norms_of_its_own():
    model = models.build("folded:resnet32", width=0.25)
    stage = model.stage2
    for number, block in enumerate(stage):
        for norm in (block.norm1, block.norm2):
            nn.init.uniform_(norm.weight)
            norm.running_mean.fill_(0.1 * number)
    model.eval()
    images = torch.randn(2, 4, 8, 8)
    expected = stage[0](images)
    for block in list(stage)[1:]:
        inner = block.norm1(nn.functional.conv2d(expected, stage[1].conv1.weight, padding=1)).relu()
        inner = block.norm2(nn.functional.conv2d(inner, stage[1].conv2.weight, padding=1))
        expected = (expected + inner).relu()
    torch.testing.assert_close(stage(images), expected, rtol=0, atol=0)
    assert len({id(norm) for block in stage for norm in (block.norm1, block.norm2)}) == 10


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_one_block_for_each_kind_in_each_stage(name):
    plain, model = models.build(name.removeprefix("folded:")), models.build(name)
    stages = [module for module in plain.modules() if isinstance(module, nn.Sequential) and len(module) > 2]
    kinds = [{repr(block): weights_of(block) for block in stage} for stage in stages]
    once = sum(sum(each.values()) for each in kinds)
    assert weights_of(model) == weights_of(plain) - sum(map(weights_of, stages)) + once
    assert weights_of(model) < 0.7 * weights_of(plain)


def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_steps():
    shared, plain = models.build("folded:resnet32", width=0.25), models.build("resnet32", width=0.25)
    plain.load_state_dict(shared.state_dict())
    images = torch.randn(4, 3, 16, 16)
    for model in (shared, plain):
        model(images).square().sum().backward()
    for stage, first in ((plain.stage1, 0), (plain.stage2, 1)):
        total = sum(block.conv1.weight.grad for block in list(stage)[first:])
        own = shared.stage1[0] if first == 0 else shared.stage2[1]
        torch.testing.assert_close(own.conv1.weight.grad, total)


def test_a_shared_weight_has_one_mask_and_comes_back_with_its_ticket(tmp_path):
    search = EdgePopup(models.build("folded:resnet20", width=0.25), density=0.5)
    assert len(search.masks()) == 1 + 2 * 5 + 2 + 1
    search.ticket().save(tmp_path / "a.ticket")
    ticket = Ticket.load(tmp_path / "a.ticket")
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(
        ticket.apply(models.build("folded:resnet20", width=0.25)).eval()(images), search.model.eval()(images)
    )
    assert ticket.prunable == weights_of(models.build("folded:resnet20", width=0.25))


SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in ("imp", "edge_popup_trained", "synflow")]


@pytest.mark.parametrize("method", ["edge_popup", "dense", "snip", "learned", *SLOW])
def test_methods_run_on_shared_weights(tmp_path, method):
    job = Job(
        method=method,
        model="folded:resnet20",
        width=0.25,
        data="synthetic",
        recipe=Recipe(iterations=4, batch_size=50),
        search=SearchOptions(density=0.4),
    )
    result = run(job, tmp_path, progress=False)
    model = models.build("folded:resnet20", width=0.25, input_shape=(1, 8, 8))
    # a dense network's parameters count all, norms and biases too
    assert result.prunable == (sum(p.numel() for p in model.parameters()) if method == "dense" else weights_of(model))


@pytest.mark.parametrize("model", [nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)), nn.Linear(2, 2)])
def test_a_network_without_blocks_is_refused(model):
    with pytest.raises(SupermaskError, match="no equal blocks"):
        folded(model)


def test_the_message_names_the_network():
    with pytest.raises(SupermaskError, match="Cannot build folded:lenet5: The model has no equal blocks"):
        models.build("folded:lenet5")
