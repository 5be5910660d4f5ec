"""The state of the model alone is enough to go on: it holds the step, and says what search it is of."""

import copy

import pytest
import safetensors.torch
import torch
from searches import LINES, STEPS
from torch import nn
from torch.optim.swa_utils import AveragedModel

from supermask import EdgePopup
from supermask.errors import SupermaskError
from supermask.masking.schedule import CubicRamp
from supermask.search import NodePerturbation, SignedSupermask
from supermask.training.subject import Estimating, Intervening

pytestmark = pytest.mark.filterwarnings("ignore:The scores of")
INPUTS = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(12) % 6
KEY = "0.parametrizations.weight.0.progress._extra_state"


def network():
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 6))


def optimizer_of(search):
    return torch.optim.SGD(search.parameters(), lr=0.5, momentum=0.9)


def advance(search, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        if isinstance(search, Estimating):
            search.estimate(INPUTS, LABELS)
        else:
            nn.functional.cross_entropy(search.model(INPUTS), LABELS).backward()
        if isinstance(search, Intervening):
            search.before_step(optimizer)
        optimizer.step()
        search.step()


def gradual(density=0.3, seed=0, steps=STEPS, **options):
    return EdgePopup(network(), density=density, seed=seed, schedule=CubicRamp(steps), scaled=False, **options)


def through_torch(state, path):
    torch.save(state, path)
    return torch.load(path, weights_only=True)


def through_safetensors(state, path):
    safetensors.torch.save_file(state, path)
    return safetensors.torch.load_file(path)


@pytest.mark.parametrize("saved", [through_torch, through_safetensors])
@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_model_that_takes_up_the_state_of_another_goes_on_as_that_would(line, saved, tmp_path):
    whole, half, other = (line.make(network()) for _ in range(3))
    advance(whole, optimizer_of(whole), STEPS)
    optimizer = optimizer_of(half)
    advance(half, optimizer, 5)
    other.model.load_state_dict(saved(half.model.state_dict(), tmp_path / "state"))
    assert other.steps == 5
    assert other.ticket() == half.ticket()
    further = optimizer_of(other)
    further.load_state_dict(optimizer.state_dict())
    advance(other, further, STEPS - 5)
    assert other.steps == whole.steps
    assert all(torch.equal(scores, whole.scores()[name]) for name, scores in other.scores().items())
    assert other.ticket() == whole.ticket()


def test_a_schedule_goes_on_where_it_was():
    search, fresh = gradual(), gradual()
    advance(search, optimizer_of(search), STEPS + 2)
    fresh.model.load_state_dict(search.model.state_dict())
    fresh.step()
    assert fresh.ticket().density == pytest.approx(0.3, abs=0.01)


OTHERS = {
    "seed 1, here 0": lambda: gradual(seed=1),
    "density 0.5, here 0.3": lambda: gradual(density=0.5),
    "scope {'name': 'ERK'}, here": lambda: gradual(scope="erk"),
    "weights": lambda: gradual(weights="kaiming_normal"),
    "'steps': 20": lambda: gradual(steps=20),
    "score 'signed', here 'magnitude'": lambda: gradual(score="signed"),
    "algorithm 'signed', here 'edge_popup'": lambda: SignedSupermask(network(), density=0.3, scaled=False),
}


@pytest.mark.parametrize("message", OTHERS)
def test_a_state_of_another_search_is_refused_before_anything_is_taken_up(message):
    search, other = gradual(), OTHERS[message]()
    advance(other, optimizer_of(other), 2)
    before, steps = copy.deepcopy(search.model.state_dict()), search.steps
    for load, state in [
        (search.load_state_dict, other.state_dict()),
        (search.model.load_state_dict, other.model.state_dict()),
        (lambda state: search.model.load_state_dict(state, strict=False), other.model.state_dict()),
    ]:
        with pytest.raises(SupermaskError, match="The state is of a") as told:
            load(state)
        if message in ("seed 1, here 0", "weights"):
            assert "over other frozen weights" in str(told.value)
        else:
            assert message in str(told.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in search.model.state_dict().items())
        assert search.steps == steps


def older(state):
    """The state as it was before the model held the step."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("_extra_state")}


@pytest.mark.parametrize("strict", [True, False])
def test_an_older_state_of_the_model_is_refused_with_what_takes_it_up(strict):
    search, fresh = gradual(), gradual()
    advance(search, optimizer_of(search), 4)
    state = older(search.model.state_dict())
    with pytest.raises(SupermaskError, match=r"holds masks but not the step .*search\.load_state_dict\({'steps'"):
        fresh.model.load_state_dict(state, strict=strict)
    fresh.load_state_dict({"steps": 4, "digest": search.network.digest, "model": state})
    search.step()
    fresh.step()
    assert fresh.ticket() == search.ticket()
    with pytest.raises(SupermaskError, match="over other frozen weights"):
        gradual(seed=1).load_state_dict({"steps": 4, "digest": search.network.digest, "model": state})


def test_an_older_state_of_node_perturbation_brings_its_feedback():
    search, fresh = (NodePerturbation(network(), density=0.5) for _ in range(2))
    optimizer = optimizer_of(search)
    advance(search, optimizer, 3)
    state = search.state_dict()
    fresh.load_state_dict({**state, "model": older(state["model"])})
    assert fresh.forward_passes == search.forward_passes > 0
    again = optimizer_of(fresh)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(fresh, again, 3)
    advance(search, optimizer, 3)
    assert fresh.ticket() == search.ticket()


def test_a_part_of_a_state_without_masks_leaves_the_step_alone():
    search = gradual()
    advance(search, optimizer_of(search), 4)
    search.model.load_state_dict({"0.bias": torch.zeros(12)}, strict=False)
    assert search.steps == 4


def test_bytes_that_are_not_a_search_are_refused():
    search = gradual()
    for wrong in (torch.zeros(20, dtype=torch.uint8), torch.zeros(0), search.model.state_dict()[KEY][:-9]):
        with pytest.raises(SupermaskError, match="progress of the search in this state is damaged"):
            search.model.load_state_dict({**search.model.state_dict(), KEY: wrong})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_state_whose_tensors_were_all_cast_has_its_step(dtype):
    search, other = gradual(), gradual()
    advance(search, optimizer_of(search), 300)
    other.model.load_state_dict({name: tensor.to(dtype) for name, tensor in search.model.state_dict().items()})
    assert other.steps == 300


def test_what_is_wrapped_or_copied_has_a_step_of_its_own():
    search = gradual()
    optimizer = optimizer_of(search)
    advance(search, optimizer, 2)
    twin, average = copy.deepcopy(search), AveragedModel(search.model)
    advance(search, optimizer, 2)
    assert (twin.steps, search.steps) == (2, 4)
    twin.model.load_state_dict(search.model.state_dict())
    assert twin.steps == 4
    assert twin.ticket() == search.ticket()
    advance(twin, optimizer_of(twin), 1)
    assert (twin.steps, search.steps) == (5, 4)
    other = AveragedModel(gradual().model)
    other.load_state_dict(average.state_dict())
    with pytest.raises(SupermaskError, match="seed 0, here 1"):
        AveragedModel(gradual(seed=1).model).load_state_dict(average.state_dict())


def test_every_state_of_a_search_has_as_many_bytes_and_the_step_is_no_buffer():
    search = gradual()
    before = search.model.state_dict()[KEY]
    advance(search, optimizer_of(search), 12)
    assert search.model.state_dict()[KEY].shape == before.shape
    assert all("progress" not in name for name, _ in search.model.named_buffers())


def test_a_baked_network_takes_any_state():
    search = gradual()
    plain = search.baked()
    plain.load_state_dict(network().state_dict())
    assert not plain._load_state_dict_pre_hooks
    assert not plain._state_dict_hooks


def test_a_loaded_state_is_not_a_change_of_scores_behind_fused_sgd():
    search, other = gradual(), gradual()
    advance(other, optimizer_of(other), 3)
    optimizer = search.fused_sgd(lr=0.1, momentum=0.9)
    advance(search, optimizer, 2)
    search.model.load_state_dict(other.model.state_dict())
    advance(search, optimizer, 1)
    assert search.steps == 4


class Language(nn.Module):
    """An output layer that reads the embedding's weight, and a bias of its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 6), nn.Linear(6, 9)
        self.head.weight = self.embed.weight

    def forward(self, words):
        return self.head(self.embed(words).mean(1))


def language():
    search = EdgePopup(Language(), density=0.4)
    optimizer = optimizer_of(search)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model(torch.arange(9).view(3, 3)), torch.arange(3)).backward()
        optimizer.step()
        search.step()
    return search


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_tied_weight_is_saved_once_as_safetensors_and_transformers_want_it(wrapped, tmp_path):
    search, other = language(), EdgePopup(Language(), density=0.4)
    one, two = ((nn.Sequential(each.model) if wrapped else each.model) for each in (search, other))
    assert sum("parametrizations" in name for name in one.state_dict()) == 3  # scores, mask, step
    two.load_state_dict(through_safetensors(one.state_dict(), tmp_path / "state"))
    assert other.steps == 3
    assert other.ticket() == search.ticket()
    safetensors.torch.save_model(one, tmp_path / "model")
    third = EdgePopup(Language(), density=0.4)
    safetensors.torch.load_model(nn.Sequential(third.model) if wrapped else third.model, tmp_path / "model")
    assert third.ticket() == search.ticket()


def test_a_state_that_holds_a_tied_weight_twice_and_one_of_a_part_are_taken_up():
    search, other = language(), EdgePopup(Language(), density=0.4)
    state = search.model.state_dict()
    twice = {name.replace("embed.", "head."): tensor for name, tensor in state.items() if "parametrizations" in name}
    other.model.load_state_dict({**state, **twice})
    assert other.ticket() == search.ticket()
    third = EdgePopup(Language(), density=0.4)
    third.model.head.load_state_dict(search.model.head.state_dict())
    assert third.ticket() == search.ticket()
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"head.bias\""):
        third.model.load_state_dict({name: tensor for name, tensor in state.items() if name != "head.bias"})


RENAMED = {
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "_orig_mod.": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "fc.": lambda state: {name.replace("0.", "fc.", 1): tensor for name, tensor in state.items()},
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("prefix", RENAMED)
def test_a_state_under_other_names_is_refused_and_never_left_out(prefix, strict):
    search, fresh = gradual(), gradual()
    advance(search, optimizer_of(search), 3)
    with pytest.raises(SupermaskError, match=rf"search under other names \({prefix}"):
        fresh.model.load_state_dict(RENAMED[prefix](search.model.state_dict()), strict=strict)
    assert fresh.steps == 0


def test_a_model_of_two_searches_takes_up_the_state_of_one():
    both, one = nn.ModuleDict({"a": network(), "b": network()}), gradual()
    first, second = (EdgePopup(both[name], density=0.3, schedule=CubicRamp(STEPS), scaled=False) for name in "ab")
    advance(one, optimizer_of(one), 3)
    both.load_state_dict({f"a.{name}": tensor for name, tensor in one.model.state_dict().items()}, strict=False)
    assert (first.steps, second.steps) == (3, 0)
    assert first.ticket() == one.ticket()


@pytest.mark.parametrize("lost", ["original", "0.mask"])
def test_half_a_state_is_refused_whether_strictly_or_not(lost):
    search, fresh = gradual(), gradual()
    advance(search, optimizer_of(search), 3)
    before = copy.deepcopy(fresh.model.state_dict())
    state = {
        name: tensor
        for name, tensor in search.model.state_dict().items()
        if name != f"2.parametrizations.weight.{lost}"
    }
    with pytest.raises(SupermaskError, match=rf"lacks 2\.parametrizations\.weight\.{lost}: half a search"):
        fresh.model.load_state_dict(state, strict=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.model.state_dict().items())


@pytest.mark.parametrize("strict", [True, False])
def test_weights_of_a_plain_network_are_not_taken_for_those_of_a_search(strict):
    search = gradual()
    with pytest.raises(SupermaskError, match=r"holds 0\.weight as a plain network has it, and here it is masked"):
        search.model.load_state_dict(network().state_dict(), strict=strict)
    with pytest.raises(SupermaskError, match=r"holds m\.0\.weight as a plain network"):
        nn.ModuleDict({"m": search.model}).load_state_dict(nn.ModuleDict({"m": network()}).state_dict(), strict=strict)
