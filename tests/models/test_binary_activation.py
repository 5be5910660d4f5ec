import pytest
import torch
from torch import nn

from supermask import SupermaskError, Ticket, models
from supermask.models.binary import BinaryActivation, binarized
from supermask.search import Biprop


def test_it_is_the_sign_with_the_gradient_of_the_quadratic():
    inputs = torch.tensor([-2.0, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 3.0], requires_grad=True)
    outputs = BinaryActivation()(inputs)
    assert outputs.tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    outputs.sum().backward()
    assert inputs.grad.tolist() == [0.0, 0.0, 1.0, 2.0, 2.0, 1.5, 0.0, 0.0]


def test_the_gradient_is_the_derivative_of_the_stand_in():
    inputs = torch.linspace(-0.95, 0.95, 21, dtype=torch.float64, requires_grad=True)
    BinaryActivation()(inputs).sum().backward()

    def stand_in(x):
        return torch.where(x < 0, 2 * x + x**2, 2 * x - x**2)

    step, at = 1e-6, inputs.detach()
    torch.testing.assert_close(inputs.grad, (stand_in(at + step) - stand_in(at - step)) / (2 * step), rtol=0, atol=1e-5)


def test_every_relu_of_a_named_network_is_replaced():
    model = models.build("binary:resnet20", width=0.25)
    kinds = [type(module) for module in model.modules()]
    assert nn.ReLU not in kinds
    assert kinds.count(BinaryActivation) == 19
    hidden = []
    for module in model.modules():
        if isinstance(module, BinaryActivation):
            module.register_forward_hook(lambda _module, _inputs, output: hidden.append(output))
    model(torch.randn(2, 3, 32, 32))
    assert all(set(output.unique().tolist()) <= {-1.0, 1.0} for output in hidden)


def test_a_network_without_relu_modules_is_refused():
    with pytest.raises(SupermaskError, match=r"no nn\.ReLU"):
        binarized(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))


def test_a_multi_prize_ticket_comes_back_with_its_activations(tmp_path):
    search = Biprop(models.build("binary:lenet5"), density=0.4)
    search.ticket().save(tmp_path / "a.ticket")
    network = Ticket.load(tmp_path / "a.ticket").apply(models.build("binary:lenet5"))
    images = torch.randn(3, 1, 28, 28)
    assert torch.equal(network(images), search.model.eval()(images))
