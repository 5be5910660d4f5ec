"""What every search must hold, whatever it is: one suite, a line for each search in `searches.py`."""

import copy
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import LINES, STEPS
from torch import nn

from supermask import Ticket
from supermask.errors import SupermaskError
from supermask.judge.controls import CONTROLS
from supermask.random.weights import grow_all
from supermask.search import SEARCHES
from supermask.training import Recipe, train
from supermask.training.subject import Intervening

# a batch norm undoes the scale of a channel, so that whole channels before it get no gradient
pytestmark = pytest.mark.filterwarnings("ignore:The scores of")


class Net(nn.Module):
    """A grouped convolution, a normalisation, a tied pair and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight
        self.fc = nn.Linear(8, 18)

    def forward(self, images):
        hidden = self.norm(self.conv(images)).relu().mean((2, 3))
        return self.fc(self.other(self.one(hidden).relu()).relu())


INPUTS = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(6)


def optimizer_of(search):
    return torch.optim.SGD(search.parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)


def advance(search, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model.train()(INPUTS), LABELS).backward()
        if isinstance(search, Intervening):
            search.before_step(optimizer)
        optimizer.step()
        search.step()


def searched(line, steps=STEPS, **options):
    search = line.make(Net(), **options)
    advance(search, optimizer_of(search), steps)
    return search


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


every_search = pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())


def test_the_suite_has_a_line_for_every_search():
    assert {line.search for line in LINES.values()} == set(SEARCHES.values())


@every_search
def test_the_start_and_every_step_keep_what_is_promised(line):
    search = line.make(Net())
    optimizer = optimizer_of(search)
    for _ in range(STEPS):
        advance(search, optimizer, 1)
        masks = search.masks()
        assert all(mask.dtype is torch.bool for mask in masks.values())
        if line.exact:
            assert all(int(mask.sum()) == round(search.density * mask.numel()) for mask in masks.values())
    assert search.complete
    if line.total:
        prunable = sum(mask.numel() for mask in masks.values())
        assert sum(int(mask.sum()) for mask in masks.values()) == round(search.density * prunable)
    if search.ranking() is not None:
        for name, rank in search.ranking().items():
            kept, pruned = rank[masks[name]], rank[~masks[name]]
            assert not kept.numel() or not pruned.numel() or kept.min() >= pruned.max()


@given(
    density=st.just(0.0) | st.floats(1e-6, 1.0),
    name=st.sampled_from([name for name, line in LINES.items() if line.exact]),
)
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore:density=")
def test_any_density_is_met_to_one_weight(density, name):
    search = LINES[name].search(Net(), density=density)
    assert all(int(mask.sum()) == round(density * mask.numel()) for mask in search.masks().values())


@every_search
def test_frozen_weights_are_those_that_the_seed_grows(line):
    search = line.make(Net(), seed=5)
    before = search.frozen_weights()
    assert equal(before, {name: grow_all(search.network.weights, 5)[name] for name in before})
    masks = search.masks()
    advance(search, optimizer_of(search), STEPS)
    assert not equal(search.masks(), masks), "the search moves"
    treatments, after = search.treatments(), search.frozen_weights()
    for name, mask in search.masks().items():
        redraws = treatments[name].redraws if name in treatments else None
        first = mask if redraws is None else mask & (redraws == 0)
        assert torch.equal(after[name][first], before[name][first])
        if redraws is None:
            assert torch.equal(after[name], before[name]) or search.name == "iterand"


@every_search
def test_pruned_weights_are_plus_zero_wherever_they_are_read(line):
    search = searched(line)
    for network in (search.model.eval(), search.baked()):
        for name, mask in search.masks().items():
            module, _, leaf = name.rpartition(".")
            pruned = getattr(network.get_submodule(module), leaf)[~mask]
            assert torch.equal(pruned, torch.zeros_like(pruned))
            assert not pruned.signbit().any()


@every_search
def test_a_ticket_computes_what_the_search_does_after_saving_and_loading(line, tmp_path):
    search = searched(line, seed=3)
    search.ticket(note="kept").save(tmp_path / "a.ticket")
    ticket = Ticket.load(tmp_path / "a.ticket")
    expected = search.model.eval()(INPUTS)
    assert torch.equal(ticket.apply(Net()).eval()(INPUTS), expected)
    assert torch.equal(search.baked().eval()(INPUTS), expected)
    assert equal(dict(ticket.masks), search.masks())
    assert ticket.provenance["algorithm"] == search.name
    assert ticket.provenance["note"] == "kept"
    json.dumps(dict(ticket.provenance["options"]), allow_nan=False)
    damaged = bytearray((tmp_path / "a.ticket").read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (tmp_path / "b.ticket").write_bytes(damaged)
    with pytest.raises(SupermaskError, match="damaged"):
        Ticket.load(tmp_path / "b.ticket")


@every_search
def test_a_search_that_was_stopped_goes_on_to_the_same_end(line, tmp_path):
    whole = searched(line)
    half = line.make(Net())
    optimizer = optimizer_of(half)
    advance(half, optimizer, 5)
    torch.save({"search": half.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state")
    state = torch.load(tmp_path / "state")
    other = line.make(Net())
    optimizer = optimizer_of(other)
    other.load_state_dict(state["search"])
    optimizer.load_state_dict(state["optimizer"])
    assert torch.equal(other.model.eval()(INPUTS), half.model.eval()(INPUTS))
    advance(other, optimizer, STEPS - 5)
    assert other.steps == whole.steps
    assert equal(other.scores(), whole.scores())
    assert equal(other.masks(), whole.masks())
    assert torch.equal(other.model.eval()(INPUTS), whole.model.eval()(INPUTS))
    with pytest.raises(SupermaskError, match="other frozen weights"):
        line.make(Net(), seed=1).load_state_dict(state["search"])


@every_search
def test_a_state_goes_back_to_where_it_was_taken(line):
    search = line.make(Net())
    optimizer = optimizer_of(search)
    advance(search, optimizer, 6)
    state, masks, outputs = copy.deepcopy(search.state_dict()), search.masks(), search.model.eval()(INPUTS)
    advance(search, optimizer, 6)
    search.load_state_dict(state)
    assert equal(search.masks(), masks)
    assert torch.equal(search.model.eval()(INPUTS), outputs)


@every_search
def test_the_seed_says_everything(line):
    one, again, other = (searched(line, seed=seed) for seed in (4, 4, 5))
    assert equal(one.masks(), again.masks())
    assert one.network.digest == again.network.digest != other.network.digest


@every_search
def test_what_is_learned_or_dense_or_in_double_precision_is_served(line):
    search = line.make(Net().double(), dense=("conv.*",), learned=("fc.weight",), bias="learned", norm="learned")
    learned = search.model.fc.weight.detach().clone()
    optimizer = optimizer_of(search)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model.train()(INPUTS.double()), LABELS).backward()
        optimizer.step()
        search.step()
    assert list(search.masks()) == ["one.weight"]
    assert not torch.equal(search.model.fc.weight, learned)
    ticket = search.ticket()
    network = ticket.apply(Net().double()).eval()
    assert torch.equal(network(INPUTS.double()), search.model.eval()(INPUTS.double()))


@every_search
def test_a_score_that_is_nan_is_told(line):
    search = searched(line, 1)
    next(iter(search.scores().values())).data.reshape(-1)[3] = math.nan
    with pytest.raises(SupermaskError, match="NaN"):
        search.step()


@every_search
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_scores_that_are_infinite_are_told_with_their_parameter(line, value):
    search = searched(line, 1)
    masks, scores = search.masks(), search.scores()
    name = list(scores)[-1]
    scores[name].data.reshape(-1)[2:4] = value
    says = rf"2 of {scores[name].numel()} scores of {name} are infinite"
    for use in (search.step, search.masks, search.ticket, search.state_dict):
        with pytest.raises(SupermaskError, match=says):
            use()
    scores[name].data.reshape(-1)[2:4] = 0.25
    assert equal(search.masks(), masks)  # those of before: nothing was chosen by the infinite ones


@every_search
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": "normal"}, "Unknown distribution"),
        ({"seed": -1}, "seed=-1"),
        ({"bias": "some"}, "bias='some'"),
        ({"norm": "some"}, "norm='some'"),
        ({"include": ("nothing.here",)}, "matches no parameter"),
        ({"dense": ("*",)}, "nothing to prune"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_the_model_alone(line, options, says):
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SupermaskError, match=says):
        line.make(model, **options)
    assert equal(model.state_dict(), before)


@pytest.mark.parametrize("line", [line for line in LINES.values() if "density" in line.options], ids=str)
@pytest.mark.parametrize("density", [-0.1, 1.5, math.nan, True, "0.3"])
def test_a_density_that_is_none_is_refused(line, density):
    with pytest.raises(SupermaskError, match="density"):
        line.search(Net(), **{**line.options, "density": density})


@every_search
def test_a_model_without_weights_is_refused(line):
    with pytest.raises(SupermaskError, match="nothing to prune"):
        line.make(nn.ReLU())


@every_search
def test_controls_take_its_tickets(line):
    search = searched(line)
    ticket = search.ticket()
    for name, control in CONTROLS.items():
        if control.scored and search.ranking() is None:
            continue
        made = control(ticket, seed=0, scores=search.ranking())
        assert made.kept == ticket.kept, name
        assert torch.isfinite(made.apply(Net()).eval()(INPUTS)).all()


@every_search
def test_a_search_trains_in_the_loop_and_tells_of_itself(line):
    from supermask import data, models

    small = data.load("synthetic", seed=0)
    recipe = Recipe(iterations=STEPS, batch_size=64, evaluate_every=4)
    search = line.make(models.build("lenet_300_100", input_shape=(1, 8, 8), width=0.1))
    outcome = train(search, small, recipe, seed=0)
    assert outcome.steps == STEPS
    assert type(search).__name__ in repr(search)
    assert f"{search.ticket().prunable:,}" in repr(search)
