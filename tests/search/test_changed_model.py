"""What happens to a model after a search was attached is found out, by a sentence and never by a wrong ticket."""

import copy

import pytest
import torch
from searches import LINES
from torch import nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from supermask import EdgePopup, Ticket
from supermask.errors import SupermaskError

INPUTS = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))


def network():
    return nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))


def searched(steps=2, **options):
    search = EdgePopup(network(), density=0.5, **options)
    advance(search, steps)
    return search


def advance(search, steps=1):
    optimizer = torch.optim.SGD(search.parameters(), lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model(INPUTS), torch.arange(8) % 3).backward()
        optimizer.step()
        search.step()


class Twice(nn.Module):
    def forward(self, weight):
        return 2 * weight


def replaced(model):
    model[3] = nn.Linear(32, 5)


def unmasked(model):
    parametrize.remove_parametrizations(model[0], "weight")


def masked_twice(model):
    parametrize.register_parametrization(model[0], "weight", Twice())


def other_scores(model):
    model[0].parametrizations.weight.original = nn.Parameter(torch.zeros(32, 16))


def assigned(model):
    model.load_state_dict(model.state_dict(), assign=True)


def to_meta(model):
    model.to("meta")


def empty_meta(model):
    model.to_empty(device="meta")


AT_STEP = {
    "module that reads 3.weight is no longer a part": replaced,
    "0.weight is no longer masked": unmasked,
    "0.weight has another parametrization over its mask": masked_twice,
    r"0.weight has other scores \(a Parameter on cpu\)": other_scores,
    "other scores": assigned,
    r"0.weight has other scores \(a Parameter on meta\)": to_meta,
    "a Parameter on meta": empty_meta,
}


@pytest.mark.parametrize("message", AT_STEP)
def test_a_changed_model_is_refused_at_the_next_step_state_and_ticket(message):
    search = searched()
    AT_STEP[message](search.model)
    for what in (search.step, search.ticket, search.state_dict):
        with pytest.raises(SupermaskError, match=message):
            what()
    assert search.steps == 2


def frozen_written(model):
    model[0].parametrizations.weight[0]._frozen[0, 0] += 1.0


def mask_written(model):
    mask = model[0].parametrizations.weight[0].mask
    mask.copy_(~mask)


def weight_written(model):
    model[3].parametrizations.weight[0].value.mul_(2.0)


def bias_trained(model):
    model[3].requires_grad_(True)
    model[3].bias.data.add_(0.1)


def emptied(model):
    model.to_empty(device="cpu")
    for _, tensor in [*model.named_parameters(), *model.named_buffers()]:
        tensor.data.fill_(0)  # a fresh allocation may hold anything


def grown(model):
    model[1] = nn.BatchNorm1d(32, track_running_stats=False)


def larger(model):
    model[1].register_buffer("running_mean", torch.zeros(33))


AT_TICKET = {
    "frozen weights of 0.weight are not those of the seed": frozen_written,
    "weights of 0.weight are not those that its mask keeps": mask_written,
    "weights of 3.weight are not those that its mask keeps": weight_written,
    "3.bias is constant in this search, and has changed": bias_trained,
    "changed": emptied,
    r"its 1.running_mean had shape \(32,\) and has None": grown,
    r"its 1.running_mean had shape \(32,\) and has \(33,\)": larger,
}


@pytest.mark.parametrize("message", AT_TICKET)
def test_what_was_written_into_is_found_out_at_the_ticket(message):
    search = searched()
    AT_TICKET[message](search.model)
    with pytest.raises(SupermaskError, match=message):
        search.ticket()


def test_a_dense_parameter_that_was_trained_is_found_out():
    search = searched(dense=("0.weight",), include=("3.weight",))
    search.ticket()
    search.model[0].weight.data[0, 0] = 0.0
    with pytest.raises(SupermaskError, match=r"0\.weight is dense in this search, and has changed"):
        search.ticket()


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_every_search_goes_on_in_another_dtype_and_written_weights_are_found(line, dtype):
    search = line.make(nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 6)))
    advance(search, 2)
    search.model.to(dtype)
    optimizer = torch.optim.SGD(search.parameters(), lr=0.5)
    nn.functional.cross_entropy(search.model(INPUTS.to(dtype)), torch.arange(8) % 3).backward()
    search.before_step(optimizer)
    optimizer.step()
    search.step()
    search.ticket()
    layer = search.model[2].parametrizations.weight[0]
    stored = next(tensor for name, tensor in layer.named_buffers() if name in ("_frozen", "_magnitude"))
    stored.mul_(0.5)
    with pytest.raises(SupermaskError, match=r"frozen weights of 2\.weight are not those of the seed"):
        search.ticket()


def test_wrapping_a_part_and_copying_are_no_changes():
    search = searched()
    first = search.model[0]
    search.model[0] = nn.Sequential(first)
    advance(search)
    search.model[0] = first
    twin, average = copy.deepcopy(search), AveragedModel(search.model)
    advance(twin, 2)
    advance(search, 2)
    average.update_parameters(search.model)
    assert twin.ticket() == search.ticket()
    assert Ticket.from_bytes(search.ticket().to_bytes()).apply(network())
    search.model.requires_grad_(False)
    search.step()
    search.ticket()


@pytest.mark.parametrize("swapped", [torch.zeros(32, 16, device="meta"), torch.zeros(4, 16), torch.zeros(33, 16)])
@pytest.mark.parametrize("fused", [False, True])
def test_scores_whose_memory_was_swapped_never_reach_a_compiled_loop(swapped, fused):
    search = searched()
    score = search.scores()["0.weight"]
    optimizer = search.fused_sgd(lr=0.1, momentum=0.9) if fused else torch.optim.SGD(search.parameters(), lr=0.1)
    if swapped.is_meta:  # torch lets no data be swapped for those of the meta device
        search.model[0].parametrizations.weight[0]._buffers["mask"] = swapped.bool()
    else:
        score.data = swapped

    def step():
        nn.functional.cross_entropy(search.model(INPUTS), torch.arange(8) % 3).backward()
        optimizer.step()
        search.step()

    with pytest.raises((SupermaskError, RuntimeError), match=r"size|shape"):
        step()
    with pytest.raises(
        SupermaskError, match=r"Scores, mask and weights of a layer are .*they have one shape, and move"
    ):
        search.step()


def test_scores_in_half_precision_beside_weights_in_single_are_selected():
    search = searched()
    score = search.scores()["0.weight"]
    score.data = score.data.half()
    search.step()
    assert int(search.masks()["0.weight"].sum()) == 256
