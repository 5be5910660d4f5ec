"""What happens to a model after a search was attached is found out, by a sentence and never by a wrong ticket."""

import copy
import pickle

import pytest
import torch
from searches import LINES
from torch import nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from supermask import EdgePopup, Ticket, hold
from supermask.errors import SupermaskError
from supermask.training.subject import Estimating

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


@pytest.mark.parametrize("value", [nn.Parameter(torch.zeros(32, 16)), torch.zeros(32, 16), None])
def test_a_masked_weight_cannot_be_replaced(value):
    search = searched()
    before = search.ticket()
    with pytest.raises(SupermaskError, match=r"Linear\.weight is masked, and cannot be replaced"):
        search.model[0].weight = value
    with pytest.raises(SupermaskError, match="is masked, and cannot be replaced"):
        del search.model[0].weight
    search.model[0].extra = nn.Parameter(torch.zeros(3))  # others can
    del search.model[0].extra
    assert search.ticket() == before


@pytest.mark.parametrize("what", ["search", "model", "held"])
def test_what_has_masked_weights_is_not_pickled_and_says_what_is(what):
    search = searched()
    held = hold(network(), {"0.weight": torch.ones(32, 16, dtype=torch.bool)})
    with pytest.raises(SupermaskError, match=r"cannot be pickled.*state_dict\(\)"):
        pickle.dumps({"search": search, "model": search.model, "held": held}[what])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_recurrent_layer_is_copied_after_a_pass_with_gradients(kind):
    search, inputs = EdgePopup(kind(5, 8), density=0.5), torch.randn(3, 2, 5)

    def go_on(search):
        optimizer = torch.optim.SGD(search.parameters(), lr=0.5)
        for _ in range(2):
            optimizer.zero_grad()
            search.model(inputs)[0].square().sum().backward()
            optimizer.step()
            search.step()
        return search.ticket()

    go_on(search)
    outputs = search.model(inputs)[0]  # its graph is there while the copies are made
    twin, average = copy.deepcopy(search), AveragedModel(search.model)
    assert torch.equal(average(inputs)[0], outputs)
    assert torch.equal(search.baked()(inputs)[0], outputs)
    assert go_on(twin) == go_on(search)
    assert not torch.equal(search.model(inputs)[0], outputs)
    held = hold(kind(5, 8), {"weight_ih_l0": torch.rand(search.model.weight_ih_l0.shape) < 0.5})
    outputs = held(inputs)[0]
    assert torch.equal(copy.deepcopy(held)(inputs)[0], outputs)
    parametrize.remove_parametrizations(held, "weight_ih_l0")
    assert torch.equal(held(inputs)[0], outputs)
    held.weight_ih_l0.data.zero_()
    assert not torch.equal(held(inputs)[0], outputs)


def sparse_layer():
    return nn.Sequential(nn.Embedding(20, 8, sparse=True), nn.Flatten(), nn.Linear(24, 3))


class SparseFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(20, 8)), nn.Linear(24, 3)

    def forward(self, words):
        return self.head(nn.functional.embedding(words, self.weight, sparse=True).flatten(1))


@pytest.mark.parametrize("make", [sparse_layer, SparseFunction])
def test_sparse_gradients_of_embeddings_reach_the_scores_as_dense_ones(make):
    words = torch.tensor([[0, 1, 1], [7, 3, 0]])
    search = EdgePopup(make(), density=0.5)
    name = next(iter(search.masks()))
    search.model(words).square().sum().backward()
    plain = search.baked()
    weight = dict(plain.named_parameters())[name].requires_grad_()
    (plain(words).square().sum()).backward()
    slope = weight.grad.to_dense() * search.frozen_weights()[name] * search.scores()[name].sign()
    torch.testing.assert_close(search.scores()[name].grad, slope.detach())


@pytest.mark.parametrize("line", ["edge_popup", "gates", "gem_miner", "learned"])
def test_searches_go_on_past_their_looks_with_sparse_embeddings(line):
    search = LINES[line].make(sparse_layer())
    optimizer = torch.optim.SGD(search.parameters(), lr=0.1, momentum=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        search.model(torch.tensor([[0, 1, 1], [7, 3, 0]])).square().sum().backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    assert search.steps == 4


@pytest.mark.filterwarnings("ignore:The scores of")
@pytest.mark.parametrize("line", LINES)
def test_no_search_makes_a_tensor_on_the_default_device(line):
    """Where that is a GPU, the loops of the CPU would get its addresses; a tensor on meta has no numbers at all."""

    def plain():
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))

    model, fresh, labels = plain(), plain(), torch.arange(8) % 3
    torch.set_default_device("meta")
    try:
        search = LINES[line].make(model)
        optimizer = torch.optim.SGD(search.parameters(), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            if isinstance(search, Estimating):
                search.estimate(INPUTS, labels)
            else:
                nn.functional.cross_entropy(model(INPUTS), labels).backward()
            search.before_step(optimizer)
            optimizer.step()
            search.step()
        search.load_state_dict(search.state_dict())
        applied = Ticket.from_bytes(search.ticket().to_bytes()).apply(fresh)
    finally:
        torch.set_default_device(None)
    torch.testing.assert_close(applied.eval()(INPUTS), model.eval()(INPUTS))
