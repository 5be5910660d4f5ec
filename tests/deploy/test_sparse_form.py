"""Layers in compressed rows compute what the dense ones do, and are chosen by the measured crossovers."""

import math
import subprocess
import sys
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from experiments.framework.report import read_results
from experiments.measuring.sparse_times import crossover as measured_crossover
from experiments.sparse_speed import EXPERIMENT as SPARSE_SPEED
from supermask import EdgePopup, SupermaskError, models
from supermask.deploy import SparseLinear, SparsePointwise, sparse
from supermask.deploy.sparse import LINEAR, POINTWISE, WIDE, crossover


@torch.no_grad()
def pruned(layer, density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator) < density)
    return layer


@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    leading=st.lists(st.integers(0, 3), max_size=3),
    density=st.sampled_from((0.0, 0.2, 1.0)),
    bias=st.booleans(),
    dtype=st.sampled_from((torch.float32, torch.float64)),
)
@settings(max_examples=60, deadline=None)
@torch.no_grad()
def test_a_linear_layer(sizes, leading, density, bias, dtype):
    layer = pruned(nn.Linear(*sizes, bias=bias, dtype=dtype), density)
    x = torch.randn(*leading, sizes[0], dtype=dtype)
    found = SparseLinear(layer)
    torch.testing.assert_close(found(x), layer(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.weight, layer.weight)
    assert found.rows._nnz() == int((layer.weight != 0).sum())


@given(
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    batch=st.integers(0, 3),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_a_convolution_of_one_pixel(channels, batch, size, bias):
    layer = pruned(nn.Conv2d(*channels, 1, bias=bias), 0.4)
    x = torch.randn(batch, channels[0], *size).to(memory_format=torch.channels_last)
    found = SparsePointwise(layer)
    torch.testing.assert_close(found(x), layer(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.weight, layer.weight)


@torch.no_grad()
def test_a_ticket_in_sparse_form_computes_what_it_did():
    search = EdgePopup(models.build("lenet_300_100"), density=0.02)
    network = search.ticket().apply(models.build("lenet_300_100"))
    found = sparse(network, batch=128)
    images = torch.randn(20, 1, 28, 28)
    expected = network.eval()(images)
    torch.testing.assert_close(found.network(images), expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    assert set(found.sparse) == {"fc1", "fc2"}  # the last layer is too small to pay
    assert set(found.dense) == {"fc3"}
    assert found.sparse["fc1"] == pytest.approx(0.02, abs=1e-4)
    assert isinstance(found.network.fc1, SparseLinear)
    assert isinstance(network.fc1, nn.Linear)
    assert "4704 weights" in repr(found.network.fc1)


@torch.no_grad()
def test_only_what_pays_is_replaced():
    model = nn.ModuleDict(
        {
            "thin": pruned(nn.Linear(1024, 1024), 0.01),
            "full": nn.Linear(1024, 1024),
            "small": pruned(nn.Linear(10, 10), 0.01),
            "pixel": pruned(nn.Conv2d(256, 256, 1), 0.01),
            "strided": pruned(nn.Conv2d(256, 256, 1, stride=2), 0.01),
            "padded": pruned(nn.Conv2d(256, 256, 1, padding=1), 0.01),
            "grouped": pruned(nn.Conv2d(256, 256, 1, groups=2), 0.01),
            "large kernel": pruned(nn.Conv2d(64, 64, 3), 0.01),
            "short floats": pruned(nn.Linear(1024, 1024, dtype=torch.bfloat16), 0.01),
        }
    )
    found = sparse(model, batch=16)
    assert set(found.sparse) == {"thin", "pixel"}
    assert set(found.sparse) | set(found.dense) == set(model)
    images = torch.randn(2, 256, 5, 5)
    torch.testing.assert_close(found.network["pixel"](images), model["pixel"](images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("inputs", "batch", "faster"), [(65536, 128, False), (65536, 16, True), (512, 128, True)])
def test_inputs_that_outgrow_the_caches_leave_a_layer_dense(inputs, batch, faster):
    layer = pruned(nn.Linear(inputs, 2**22 // inputs), 0.02)
    assert bool(sparse(layer, batch=batch).sparse) is faster


@torch.no_grad()
def test_one_layer_in_two_places_and_a_layer_alone():
    layer = pruned(nn.Linear(1024, 1024), 0.01)
    x = torch.randn(3, 1024)
    twice = sparse(nn.Sequential(layer, nn.ReLU(), layer), batch=16).network
    assert twice[0] is twice[2]
    torch.testing.assert_close(twice(x), layer(layer(x).relu()), rtol=1e-5, atol=1e-6)
    alone = sparse(layer, batch=16).network
    assert isinstance(alone, SparseLinear)
    torch.testing.assert_close(alone(x), layer(x), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_torch_layers_that_read_weights_past_the_forward_pass_still_work():
    model = nn.TransformerEncoderLayer(1024, 2, dim_feedforward=1024, batch_first=True).eval()
    pruned(model.linear1, 0.01)
    found = sparse(model, batch=16)
    x = torch.randn(2, 3, 1024)
    assert "linear1" in found.sparse
    torch.testing.assert_close(found.network(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_network_in_sparse_form_takes_up_the_state_of_another():
    model, other = (sparse(pruned(nn.Linear(1024, 1024), 0.01), batch=16).network for _ in range(2))
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 1024)
    assert torch.equal(other(x), model(x))


@torch.no_grad()
def test_a_network_that_cannot_be_copied_is_changed_itself():
    model = nn.Sequential(pruned(nn.Linear(1024, 1024), 0.01), nn.ReLU())
    model.held = threading.Lock()
    x = torch.randn(2, 1024)
    wanted = model(x)
    found = sparse(model, batch=16, copy=False).network
    assert found is model
    assert isinstance(model[0], SparseLinear)
    torch.testing.assert_close(found(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_none_is_refused(batch):
    with pytest.raises(SupermaskError, match=rf"batch={batch} is below 1; give the number of examples of a call\."):
        sparse(nn.Linear(2, 2), batch=batch)


def test_another_device_is_refused():
    with pytest.raises(SupermaskError, match=r"not on the CPU"):
        sparse(nn.Linear(2, 2, device="meta"))


def test_the_next_smaller_layer_and_batch_count():
    known = {(100, 1): 0.1, (100, 16): 0.2, (1000, 1): 0.3, (1000, 16): 0.4}
    cases = {(99, 99): 0.0, (100, 1): 0.1, (999, 15): 0.1, (999, 16): 0.2, (5000, 2): 0.3, (5000, 99): 0.4}
    assert {case: crossover(known, *case) for case in cases} == cases


def test_the_crossovers_are_those_that_were_measured():
    found = read_results(SPARSE_SPEED)
    measured = {"linear": {}, "1x1": {}, "3x3": {}, "wide": {(1, 1): 1.0}}
    for label, (result,) in found.items():
        shape = result.config["shape"]
        weights = shape["outputs"] * shape["inputs"]
        density = math.floor(100 * measured_crossover(result, "torch")) / 100
        if shape["inputs"] > 2048:
            measured["wide"][shape["inputs"], shape["batch"]] = density
        else:
            measured[label.split()[0]][weights, shape["batch"]] = density
    assert dict(LINEAR) == measured["linear"]
    assert dict(WIDE) == measured["wide"]
    assert dict(POINTWISE) == measured["1x1"]
    assert max(measured["3x3"].values()) < 0.05  # no reason to unfold


def test_rows_are_made_without_a_warning_of_torch():
    """Some versions warn once in a process of checks that were asked for; others do not."""
    script = (
        "import torch; from supermask.deploy import SparseLinear; from torch import nn\n"
        "print(SparseLinear(nn.Linear(3, 2))(torch.ones(1, 3)).shape)"
    )
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
