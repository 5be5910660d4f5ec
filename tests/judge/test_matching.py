"""Hidden units matched: a network in another order is found back, and its function with it."""

import pytest
import torch
from torch import nn

from supermask import SupermaskError
from supermask.judge.matching import match_units


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 9, 6),
        nn.ReLU(),
        nn.Linear(6, 2),
    ).eval()


IMAGES = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def reordered(tensors):
    """Put the units of the three hidden layers into another order, by hand."""
    moved = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    first, second, third = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0]), torch.tensor([5, 3, 1, 0, 2, 4])
    for name in ("0.weight", "1.weight", "1.bias"):
        moved[name] = moved[name][first]
    moved["3.weight"], moved["3.bias"] = moved["3.weight"][:, first][second], moved["3.bias"][second]
    moved["6.weight"] = moved["6.weight"].reshape(6, 3, 9)[:, second].reshape(6, 27)[third]
    moved["6.bias"], moved["8.weight"] = moved["6.bias"][third], moved["8.weight"][:, third]
    return moved, (first, second, third)


def test_a_network_in_another_order_is_found_back():
    model = network(0)
    nn.init.uniform_(model[1].weight)
    ours = dict(model.named_parameters())
    theirs, orders = reordered(ours)
    found = match_units(model, ours, theirs, IMAGES)
    assert [order.tolist() for order in found.orders.values()] == [order.tolist() for order in orders]
    assert found.distance < 1e-12 < found.before
    moved = found.apply({name: tensor.detach() for name, tensor in ours.items()})
    assert all(torch.equal(moved[name], tensor) for name, tensor in theirs.items())
    with torch.no_grad():
        expected = model(IMAGES)
        for name, tensor in moved.items():
            model.get_parameter(name).copy_(tensor)
        torch.testing.assert_close(model(IMAGES), expected)  # the order of hidden units is no matter


def test_masks_go_along():
    model = network(0)
    ours = dict(model.named_parameters())
    theirs, _ = reordered(ours)
    masks = {name: tensor > 0 for name, tensor in ours.items() if tensor.ndim > 1}
    moved = match_units(model, ours, theirs, IMAGES).apply(masks)
    assert moved.keys() == masks.keys()
    assert all(torch.equal(mask, theirs[name] > 0) for name, mask in moved.items())


def test_of_unlike_networks_it_is_no_farther_than_before_and_itself_stays():
    model = network(0)
    ours, theirs = dict(model.named_parameters()), dict(network(1).named_parameters())
    ours, theirs = ({name: each.detach() for name, each in tensors.items()} for tensors in (ours, theirs))
    found = match_units(model, ours, theirs, IMAGES)
    assert found.distance < found.before
    slow = sum(float((found.apply(ours)[name] - theirs[name]).square().sum()) for name in ours)
    assert found.distance == pytest.approx(slow, rel=1e-5)
    still = match_units(model, ours, ours, IMAGES)
    assert all(torch.equal(order, torch.arange(len(order))) for order in still.orders.values())


def test_a_network_without_hidden_units_is_refused():
    model = nn.Linear(4, 2)
    with pytest.raises(SupermaskError, match="No layer has hidden units of its own"):
        match_units(model, dict(model.named_parameters()), dict(model.named_parameters()), torch.ones(2, 4))
