"""Networks whose weights are made before each pass in the old way, by hooks: narrowed, written and copied."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from supermask import EdgePopup
from supermask.deploy import export, narrow, sparse
from supermask.parameters.copies import copy_of

INPUTS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def half(module):
    return prune.l1_unstructured(module, "weight", 0.5)


def network(made):
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)]
    model = nn.Sequential(made(layers[0]), *layers[1:])
    with torch.no_grad():
        model[2].weight[::2], model[2].bias[::2], model[4].weight[:, 1] = 0.0, 0.0, 0.0
    return model


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("made", [spectral_norm, weight_norm, half])
def test_such_a_network_is_narrowed_written_and_copied_to_the_same_outputs(made, trained, tmp_path):
    model = network(made)
    if trained:  # the weight of the last pass is then held with its graph
        model(INPUTS).sum().backward()
    wanted = model.eval()(INPUTS).detach()
    small = narrow(model, INPUTS)
    assert small.removed == 5
    torch.testing.assert_close(small.network(INPUTS), wanted, rtol=1e-6, atol=1e-7)
    assert export(model, tmp_path / "network.pt2", example=INPUTS, format="torch_export").difference <= 1e-6
    torch.testing.assert_close(sparse(model, batch=4).network(INPUTS), wanted, rtol=1e-6, atol=1e-7)
    assert torch.equal(copy_of(model)(INPUTS), wanted)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("made", [spectral_norm, weight_norm])
def test_a_search_around_such_a_layer_is_baked_and_its_ticket_narrowed(made):
    search = EdgePopup(network(made), density=0.3, learned=("0.*",))
    search.model(INPUTS).sum().backward()
    wanted = search.model.eval()(INPUTS)
    for plain in (search.baked(), search.ticket().apply(network(made)).eval()):
        assert torch.equal(plain(INPUTS), wanted)
        torch.testing.assert_close(narrow(plain, INPUTS).network(INPUTS), wanted, rtol=1e-6, atol=1e-7)
