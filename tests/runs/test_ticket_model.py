"""Networks that tickets name are built again, of whatever kind."""

from pathlib import Path

import pytest
import torch

from supermask import EdgePopup, models
from supermask.errors import TicketError
from supermask.runs.ticket_model import built_from


def _of(name, classes=10):
    model = models.build(name, input_shape=(3, 64, 64), classes=10)
    made = {"name": name, "input_shape": [3, 64, 64], "classes": classes, "width": 1.0}
    return model, EdgePopup(model, density=0.5).ticket(model=made)


@pytest.mark.parametrize(
    "name", ["torchvision:regnet_y_400mf", "torchvision:shufflenet_v2_x0_5", "torchvision:swin_t", "resnet8"]
)
def test_a_network_is_built_whose_maker_computes_its_sizes_by_tensors(name):
    model, ticket = _of(name)
    built = built_from(ticket, Path("a.ticket"))
    assert not any(parameter.is_meta for parameter in built.parameters())
    inputs = torch.randn(2, 3, 64, 64)
    assert torch.equal(ticket.apply(built).eval()(inputs), model.eval()(inputs))


def test_one_of_other_sizes_is_refused():
    with pytest.raises(TicketError, match="another architecture"):
        built_from(_of("torchvision:regnet_y_400mf", classes=11)[1], Path("a.ticket"))
