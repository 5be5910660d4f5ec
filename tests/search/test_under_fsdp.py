"""FSDP and tensor parallelism spread what a search reads: they are refused, whichever comes first."""

import pytest
import torch
from torch import nn

from supermask import EdgePopup
from supermask.errors import SupermaskError

distributed = pytest.importorskip("torch.distributed")
pytest.importorskip("torch.distributed.fsdp")
pytest.importorskip("torch.distributed.tensor.parallel")
if not distributed.is_available() or not distributed.is_gloo_available():
    pytest.skip("this build of PyTorch has no gloo", allow_module_level=True)

INPUTS, LABELS = torch.randn(8, 16, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mesh():
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield distributed.device_mesh.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def network():
    return nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 3, bias=False))


def whole(model, mesh):
    return distributed.fsdp.fully_shard(model, mesh=mesh)


def part(model, mesh):
    distributed.fsdp.fully_shard(model[2], mesh=mesh)
    return model


def wrapped(model, mesh):
    return distributed.fsdp.FullyShardedDataParallel(model, device_id=CPU, device_mesh=mesh, use_orig_params=True)


def flattened(model, mesh):
    return distributed.fsdp.FullyShardedDataParallel(model, device_id=CPU, device_mesh=mesh)


def part_wrapped(model, mesh):
    model[2] = wrapped(model[2], mesh)
    return model


def split(model, mesh):
    parallel = distributed.tensor.parallel
    return parallel.parallelize_module(model, mesh, {"2": parallel.ColwiseParallel()})


SPREAD = (whole, part, wrapped, flattened, part_wrapped)
quietly = pytest.mark.filterwarnings("ignore")  # torch says that one process shards nothing, or that FSDP1 is old


@quietly
@pytest.mark.parametrize("spread", [*SPREAD, split])
def test_what_is_spread_before_a_search_is_attached_is_refused(spread, mesh):
    with pytest.raises(SupermaskError, match=r"a search (does not know|knows) \(?DDP"):
        EdgePopup(spread(network(), mesh), density=0.5)


@quietly
def test_a_model_within_fsdp_is_refused_too(mesh):
    model = network()
    wrapped(model, mesh)
    with pytest.raises(SupermaskError, match="0 is under FSDP, which a search does not know"):
        EdgePopup(model, density=0.5)


@quietly
@pytest.mark.parametrize("spread", SPREAD)
def test_what_is_spread_after_a_search_was_attached_is_refused_at_the_first_step(spread, mesh):
    search = EdgePopup(network(), density=0.5)
    model = spread(search.model, mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    nn.functional.cross_entropy(model(INPUTS), LABELS).backward()
    optimizer.step()
    for use in (search.step, search.masks, search.ticket, search.state_dict):
        with pytest.raises(SupermaskError, match=r"changed after the search was attached: .*under FSDP"):
            use()
    assert search.steps == 0
