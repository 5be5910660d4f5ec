"""Masks over given weights: what is kept is the model's own, and the ticket takes it from the checkpoint again."""

import copy
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from supermask import Given, Ticket
from supermask.baselines.random_mask import RandomMask
from supermask.errors import RunError, SupermaskError, TicketError
from supermask.judge.controls import CONTROLS
from supermask.parameters.given import Checkpoint, load_given
from supermask.random.distributions import KaimingNormal
from supermask.search import SEARCHES, EdgePopup, LearnedSupermask, Search, SignedSupermask
from supermask.search.edge_popup import SCORES, EdgePopupRule
from supermask.superposition import Superposition
from supermask.superposition.learning import Learner
from supermask.ticket.file import encode
from supermask.training import Recipe, train

sys.path.append(str(Path(__file__).parents[1] / "training"))
from together import together

pytestmark = pytest.mark.filterwarnings("ignore:The scores of")
INPUTS = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(9) % 3
OPTIONS = {"gem_miner": {"steps": 8, "freeze_every": 2}, "gates": {"steps": 8}, "structured": {}, "learned": {}}
OPTIONS["coded"] = {"bytes": 2000, "steps": 4, "memory": 6}
TAKE = {name: search for name, search in SEARCHES.items() if not search.kind.not_given}
every_search = pytest.mark.parametrize("name", TAKE)


class Net(nn.Module):
    """A tied pair, a normalisation with statistics, a parameter that is not a weight, a head."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.other.weight = self.one.weight
        self.token = nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        hidden = self.norm(self.fc(inputs)).relu() + self.token
        return self.head(self.other(self.one(hidden).relu()).relu())


def pretrained(seed=0):
    """Return a model with trained statistics."""
    torch.manual_seed(seed)
    model = Net()
    model(INPUTS)
    return model


def tensors(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def advance(search, steps=4):
    optimizer = torch.optim.SGD(search.parameters(), lr=0.3, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model(INPUTS), LABELS).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    return search


def searched(name="edge_popup", model=None, **options):
    kind = TAKE[name]
    if "density" in kind.__signature__.parameters:
        options = {"density": 0.4, **options}
    return kind(model or pretrained(), weights=Given("net"), **{**OPTIONS.get(name, {}), **options})


# ---- what is kept is the model's own


@every_search
def test_the_network_of_a_ticket_is_that_of_the_search_and_its_kept_weights_are_the_given_ones(name):
    model = pretrained()
    before = tensors(model)
    search = advance(searched(name, model, learned=("head.*",)))
    for kept in ("token", "fc.bias", "one.bias", "norm.weight", "norm.bias"):
        assert torch.equal(dict(model.named_parameters())[kept], before[kept])
    assert all(torch.equal(weight, before[key]) for key, weight in search.frozen_weights().items())
    ticket = Ticket.from_bytes(search.ticket().to_bytes())
    network = ticket.apply(pretrained(1), given=before)
    for key, mask in search.masks().items():
        value = dict(network.named_parameters())[key]
        treatment = ticket.treatments.get(key)
        factors = treatment.factors if treatment and treatment.factors is not None else mask.int()
        gain = treatment.gain if treatment else 1.0
        assert torch.equal(value, torch.where(mask, before[key] * factors * gain, 0.0)), key
    assert torch.equal(network.eval()(INPUTS), model.eval()(INPUTS))


def test_the_forward_pass_is_that_of_weights_multiplied_by_hand():
    model = pretrained()
    slow = copy.deepcopy(model).eval()
    search = searched(model=model)
    with torch.no_grad():
        for name, mask in search.masks().items():
            dict(slow.named_parameters())[name].mul_(mask)
    assert torch.equal(model.eval()(INPUTS), slow(INPUTS))


def test_the_gradient_of_a_score_is_that_of_its_weight_times_the_given_one():
    model = pretrained().eval()
    slow = copy.deepcopy(model)
    search = searched(model=model)
    with torch.no_grad():
        for name, mask in search.masks().items():
            dict(slow.named_parameters())[name].mul_(mask)
    for each in (model, slow):
        nn.functional.cross_entropy(each(INPUTS), LABELS).backward()
    given = search.frozen_weights()
    for name, score in search.scores().items():
        expected = dict(slow.named_parameters())[name].grad * given[name] * score.sign()
        torch.testing.assert_close(score.grad, expected)  # a tied weight adds up in another order


def test_all_else_stays_unless_it_is_named():
    search = searched(learned=("head.*",))
    assert search.account() == {
        "masked": {"fc.weight": 48, "one.weight": 64},
        "given": {"token": 8, "fc.bias": 8, "norm.weight": 8, "norm.bias": 8, "one.bias": 8},
        "learned": {"head.weight": 24, "head.bias": 3},
    }
    assert (search.bias, search.norm, search.scaled) == ("frozen", "frozen", False)
    zero = searched(bias="none", norm="affine_off", dense=("one.weight",), include=("token",))
    assert set(zero.account()) == {"masked", "dense", "constant"}
    assert not zero.model.fc.bias.any()
    ticket, given = zero.ticket(), tensors(pretrained())
    assert set(ticket.constants) == {"fc.bias", "one.bias", "head.bias", "norm.weight", "norm.bias"}
    assert torch.equal(ticket.apply(Net(), given=given).one.weight, given["one.weight"])


def test_what_is_learned_starts_from_the_model_and_is_all_that_is_stored():
    model = pretrained()
    head = model.head.weight.detach().clone()
    search = searched(model=model.eval(), learned=("head.*",))
    assert torch.equal(model.head.weight, head)
    assert set(search.ticket().learned) == {"head.weight", "head.bias"}
    advance(search)
    assert not torch.equal(model.head.weight, head)
    ticket, without = search.ticket(), {k: v for k, v in tensors(pretrained()).items() if "head" not in k}
    assert torch.equal(ticket.apply(Net(), given=without).eval()(INPUTS), model(INPUTS))


def test_statistics_are_of_the_checkpoint_until_they_change():
    model = pretrained()
    before = tensors(model)
    search = searched(model=model)
    advance(search.model.eval() and search)
    assert not search.ticket().learned
    network = search.ticket().apply(Net(), given=before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    model.train()
    advance(search)
    assert set(search.ticket().learned) == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert torch.equal(search.ticket().apply(Net(), given=before).eval()(INPUTS), model.eval()(INPUTS))


def test_what_is_not_to_be_trained_stays_and_is_not_stored():
    model = pretrained()
    model.fc.requires_grad_(False)
    search = advance(searched(model=model.eval()))
    assert search.account()["frozen"] == {"fc.weight": 48, "fc.bias": 8}
    assert not search.ticket().learned
    assert torch.equal(search.ticket().apply(Net(), given=tensors(pretrained())).eval()(INPUTS), model(INPUTS))


def test_a_large_part_that_stays_is_not_warned_of():
    searched(model=nn.Sequential(nn.Linear(4, 2), nn.Embedding(3000, 1)), dense=("1.weight",))


def test_a_parametrised_model_is_refused_and_left_alone():
    model = pretrained()
    nn.utils.parametrizations.weight_norm(model.fc)
    before = tensors(model)
    with pytest.raises(SupermaskError, match="fc is already parametrized"):
        searched(model=model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# ---- where the scores start


def test_the_first_mask_keeps_the_largest_weights_of_each_layer():
    model = pretrained()
    weight = model.fc.weight.detach().clone()
    search = searched(model=model)
    scale = math.sqrt(6 / 6) / float(weight.abs().max())  # HYDRA: sqrt(6 / fan_in) x w / max |w|
    assert torch.allclose(search.scores()["fc.weight"], weight * scale)
    kept = torch.zeros(48, dtype=torch.bool)
    kept[weight.abs().reshape(-1).argsort(descending=True)[:19]] = True  # round(0.4 x 48)
    assert torch.equal(search.masks()["fc.weight"].reshape(-1), kept)
    signed = searched(model=pretrained(), score="signed")
    assert torch.equal(signed.masks()["fc.weight"], search.masks()["fc.weight"])


@pytest.mark.parametrize("name", ["signed", "trichromatic"])
def test_no_sign_is_flipped_at_first(name):
    search = searched(name)
    factors = [each.factors for each in search.treatments().values() if each.factors is not None]
    assert all((each >= 0).all() for each in factors)


def test_scores_may_be_drawn_and_a_random_mask_draws_them_always():
    drawn = searched(scores=SCORES)
    ours = EdgePopup(pretrained(), density=0.4)
    assert torch.equal(drawn.scores()["fc.weight"], ours.scores()["fc.weight"])
    random = RandomMask(pretrained(), density=0.4, weights="given")
    assert torch.equal(random.scores()["fc.weight"], ours.scores()["fc.weight"])


def test_random_weights_may_start_from_their_magnitudes_too():
    search = EdgePopup(Net(), density=0.4, weights=KaimingNormal(), scores="weights")
    weight = search.frozen_weights()["fc.weight"].abs()
    mask = search.masks()["fc.weight"]
    assert weight[mask].min() > weight[~mask].max()


@pytest.mark.parametrize("weight", [torch.zeros(3, 2), torch.zeros(0, 2)])
def test_weights_without_a_magnitude_start_from_equal_scores(weight):
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1))
    model[0].weight = nn.Parameter(weight)
    search = EdgePopup(model, density=0.5, weights="given")
    assert int(search.masks()["0.weight"].sum()) == round(0.5 * weight.numel())


# ---- options


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: searched(scaled=True), "scaled=True keeps the variance of a distribution, and given weights have"),
        (
            lambda: SEARCHES["iterand"](Net(), density=0.3, weights="given"),
            "iterand cannot search over given weights",
        ),
        (
            lambda: SEARCHES["biprop"](Net(), density=0.3, weights=Given()),
            "biprop cannot search over given weights",
        ),
        (lambda: Given(Path("net.pt")), r"Given\(PosixPath\('net.pt'\)\) has no name; give a text"),
        (lambda: searched(packed=True), "cannot be packed into bits"),
        (lambda: EdgePopup(Net(), density=0.3, weights="givn"), "Unknown distribution 'givn'"),
    ],
)
def test_options_that_do_not_fit_are_refused(make, says):
    with pytest.raises(SupermaskError, match=says):
        make()


def test_other_weights_open_the_defaults_again():
    rule = EdgePopupRule(density=0.3, bias="learned")
    given = rule.changed({"weights": "given"})
    assert (given.bias, given.norm, given.scaled, given.scores) == ("learned", "frozen", False, "weights")
    assert given.changed({"weights": "signed_constant"}) == rule
    assert given == EdgePopupRule(density=0.3, bias="learned", weights="given")
    search = Search(pretrained(), EdgePopupRule(density=0.3), weights="given", norm="learned")
    assert (search.bias, search.norm) == ("frozen", "learned")


# ---- the checkpoint


APPLY = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_given import INPUTS, Net
from supermask import Ticket
ticket = Ticket.load(sys.argv[2])
for given in (sys.argv[3], sys.argv[4], torch.load(sys.argv[4], weights_only=True)):
    print(ticket.apply(Net(), given=given).eval()(INPUTS).tolist())
"""


def test_a_fresh_process_applies_it_to_a_file_of_either_kind(tmp_path):
    model = pretrained()
    safetensors.torch.save_model(model, tmp_path / "net.safetensors")  # which drops a name of the tied weight
    torch.save(model.state_dict(), tmp_path / "net.pt")
    search = advance(searched(model=model))
    search.ticket().save(tmp_path / "net.ticket")
    names = ("net.ticket", "net.safetensors", "net.pt")
    arguments = [str(Path(__file__).parent), *(str(tmp_path / name) for name in names)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", APPLY, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str(model.eval()(INPUTS).tolist())] * 3


@pytest.mark.parametrize("name", ["one.weight", "other.weight"])
def test_a_tied_weight_is_found_under_any_of_its_names(name):
    model = pretrained()
    given = {k: v for k, v in tensors(model).items() if k not in ("one.weight", "other.weight")}
    search = searched(model=model.eval())
    network = search.ticket().apply(Net(), given={**given, name: tensors(pretrained())["one.weight"]})
    assert network.one.weight is network.other.weight
    assert torch.equal(network.eval()(INPUTS), model(INPUTS))


class Tied(nn.Module):
    """A language model whose head reads the embedding's weight."""

    def __init__(self):
        super().__init__()
        self.wte, self.block, self.head = nn.Embedding(11, 4), nn.Linear(4, 4), nn.Linear(4, 11, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, tokens):
        return self.head(self.block(self.wte(tokens)).tanh())


def test_the_embedding_of_a_language_model_may_be_masked_under_the_name_of_its_head():
    torch.manual_seed(0)
    model, tokens = Tied(), torch.arange(11)
    given = {"head.weight": model.wte.weight.detach().clone(), **tensors(model.block)}
    given = {name if "head" in name else f"block.{name}": tensor for name, tensor in given.items()}
    search = EdgePopup(model, density=0.5, weights="given")
    expected = model(tokens)
    network = Ticket.from_bytes(search.ticket().to_bytes()).apply(Tied(), given=given)
    assert torch.equal(network(tokens), expected)


def flipped(tensor):
    """Return a tensor that differs in one bit."""
    bits = tensor.clone().reshape(-1).view(torch.uint8)
    bits[-1] ^= 1
    return bits.view(tensor.dtype).reshape(tensor.shape)


WRONG = {
    "a bit": (lambda t: {**t, "fc.weight": flipped(t["fc.weight"])}, "its fc.weight has other values"),
    "a pruned weight": (lambda t: {**t, "fc.weight": t["fc.weight"] * 1.5}, "its fc.weight has other values"),
    "a statistic": (lambda t: {**t, "norm.running_var": t["norm.running_var"] + 1}, "its norm.running_var has other"),
    "the sign of zero": (lambda t: {**t, "norm.bias": -t["norm.bias"]}, "its norm.bias has other values"),
    "missing": (lambda t: {k: v for k, v in t.items() if k != "token"}, "it lacks token"),
    "a dtype": (lambda t: {**t, "fc.weight": t["fc.weight"].double()}, "its fc.weight is float64, not float32"),
    "a shape": (lambda t: {**t, "fc.weight": t["fc.weight"].t()}, r"its fc.weight has shape \(6, 8\), not \(8, 6\)"),
    "no numbers": (lambda t: {**t, "token": t["token"].to("meta")}, "its token is not a plain tensor of numbers"),
    "sparse": (lambda t: {**t, "fc.weight": t["fc.weight"].to_sparse()}, "its fc.weight is not a plain tensor"),
    "many": (lambda t: {"x": torch.ones(1)}, r"it lacks token; it lacks fc.weight; it lacks fc.bias \(and"),
    "a list": (lambda t: [t], "given=list was passed; give the path of a checkpoint"),
    "what it lies in": (lambda t: {"state_dict": t}, r"holds no tensors by name \(state_dict\)"),
    "nothing": (lambda t: None, r"over the weights of the checkpoint net \(SHA-256 [0-9a-f]{16}…\), which it does not"),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_checkpoint_is_refused_and_the_model_left_alone(case):
    change, says = WRONG[case]
    ticket, model = searched(model=pretrained().eval()).ticket(), Net()
    before = tensors(model)
    with pytest.raises(TicketError, match=says):
        ticket.apply(model, given=change(tensors(pretrained())))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
@pytest.mark.parametrize("data", [b"", b"rubbish" * 9, None])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, name, data):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(TicketError, match=r"^Cannot read the checkpoint|is not a sound checkpoint"):
        searched().ticket().apply(Net(), given=tmp_path / name)


class Trap:
    def __reduce__(self):
        return print, ("unpickled",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"fc.weight": torch.ones(8, 6), "trap": Trap()}, tmp_path / "net.pt")
    with pytest.raises(TicketError, match="is not a sound checkpoint"):
        searched().ticket().apply(Net(), given=tmp_path / "net.pt")
    assert not capsys.readouterr().out


def test_random_weights_take_no_checkpoint():
    ticket = EdgePopup(Net(), density=0.4).ticket()
    assert "given" not in ticket.contents().header
    with pytest.raises(TicketError, match="over random weights, which its seed regrows"):
        ticket.apply(Net(), given={})


FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.filterwarnings("ignore:density=")  # of small layers that keep nothing
@settings(max_examples=40, deadline=None)
@cases(
    st.lists(st.integers(0, 5), min_size=2, max_size=4),
    st.sampled_from(FLOATS),
    st.sampled_from(FLOATS),
    st.floats(0.1, 1.0),
    st.integers(0, 2**32),
)
def test_any_shape_and_dtype_comes_back_bit_for_bit(shape, dtype, into, density, seed):
    torch.manual_seed(seed)

    def model(dtype):
        holder = nn.Module()
        holder.register_parameter("weight", nn.Parameter(torch.randn(shape).to(dtype)))
        holder.register_parameter("more", nn.Parameter(torch.randn(3, 3).to(dtype)))
        return holder

    own = model(dtype)
    given = tensors(own)
    if not torch.cat([each.reshape(-1) for each in given.values()]).isfinite().all():
        return
    search = EdgePopup(own, density=density, weights="given", include=("more",))
    ticket = Ticket.from_bytes(search.ticket().to_bytes())
    assert ticket == search.ticket()
    for name, parameter in ticket.apply(model(into), given=given).named_parameters():
        assert torch.equal(parameter, torch.where(ticket.masks[name], given[name], 0.0).to(into))
    assert ticket.checkpoint == Checkpoint.of("", dict(reversed(given.items())))
    assert ticket.digest == Checkpoint.of("other name", given).digest
    if given["weight"].numel():
        with pytest.raises(TicketError, match="its weight has other values"):
            ticket.apply(model(dtype), given={**given, "weight": flipped(given["weight"])})


def test_views_and_strides_do_not_count():
    given = tensors(pretrained())
    odd = {name: each.t().contiguous().t() if each.ndim == 2 else each for name, each in given.items()}
    assert Checkpoint.of("", odd) == Checkpoint.of("", given)


def test_a_checkpoint_is_written_into_a_model_all_of_it_or_not_at_all(tmp_path):
    safetensors.torch.save_model(pretrained(), tmp_path / "net.safetensors")
    model = Net()
    load_given(model, tmp_path / "net.safetensors")
    assert all(torch.equal(tensor, tensors(pretrained())[name]) for name, tensor in model.state_dict().items())
    wide = Net()
    wide.head = nn.Linear(8, 5)
    before = tensors(wide)
    with pytest.raises(TicketError, match=r"its head.weight has shape \(3, 8\), not \(5, 8\).*with learned="):
        load_given(wide, tmp_path / "net.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in wide.state_dict().items())
    load_given(wide, tmp_path / "net.safetensors", spared=("head.*",))
    assert torch.equal(wide.head.weight, before["head.weight"])
    assert torch.equal(wide.fc.weight, model.fc.weight)


# ---- what else takes a search or a ticket


def test_a_ticket_can_be_held_while_the_rest_is_trained():
    ticket = searched().ticket()
    network = ticket.apply(Net(), given=tensors(pretrained()), held=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(INPUTS), LABELS).backward()
        optimizer.step()
    assert not network.fc.weight[~ticket.masks["fc.weight"]].any()
    assert not torch.equal(network.fc.bias, pretrained().fc.bias)


def test_a_search_that_was_stopped_goes_on_bit_for_bit():
    whole, first, second = searched(), searched(), searched()
    for search in (whole, first):
        advance(search, 3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    advance(whole), advance(second)
    assert whole.ticket() == second.ticket()
    assert all(torch.equal(whole.scores()[name], score) for name, score in second.scores().items())
    for other in (searched(model=pretrained(1)), searched(seed=1), EdgePopup(pretrained(), density=0.4)):
        with pytest.raises(SupermaskError, match=r"The state is of a(nother)? search"):
            other.load_state_dict(first.state_dict())


def test_an_average_of_scores_keeps_the_given_weights():
    search = searched()
    averaged = torch.optim.swa_utils.AveragedModel(search.model)
    advance(search)
    averaged.update_parameters(search.model)
    network, given = search.averaged(averaged), tensors(pretrained())
    value = network.fc.weight
    assert torch.equal(value, torch.where(value != 0, given["fc.weight"], 0.0))


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_change_the_masks_and_refuse_to_draw_given_weights(name):
    search = advance(searched())
    ticket, scores = search.ticket(), dict(search.ranking())
    if CONTROLS[name].kept == "masks":
        with pytest.raises(TicketError, match="draws the weights again, and those of this ticket are given: net"):
            CONTROLS[name](ticket, seed=0, scores=scores)
        return
    changed = CONTROLS[name](ticket, seed=0, scores=scores)
    assert changed != ticket
    network, given = changed.apply(Net(), given=tensors(pretrained())), tensors(pretrained())
    assert torch.equal(network.fc.weight, torch.where(changed.masks["fc.weight"], given["fc.weight"], 0.0))


def test_tasks_are_superposed_over_random_weights_alone():
    with pytest.raises(TicketError, match="superposed over one random network"):
        Superposition(Net(), [searched().ticket()])
    with pytest.raises(SupermaskError, match="tasks are learned over one random network"):
        Learner(Net(), lambda model: EdgePopup(model, density=0.4, weights="given"))


def test_a_ticket_holds_together():
    ticket = searched(model=pretrained().eval(), learned=("head.*",)).ticket()
    assert copy.deepcopy(ticket) == ticket
    assert hash(copy.deepcopy(ticket)) == hash(ticket)
    other = replace(ticket, checkpoint=replace(ticket.checkpoint, name="another"))
    assert other != ticket
    assert other.digest == ticket.digest
    with pytest.raises(TicketError, match="no random weights: it is over the checkpoint net"):
        ticket.random_weights()
    random = EdgePopup(pretrained(), density=0.4).ticket()
    for changes, says in [
        ({"digest": "0" * 64}, "The digest of the ticket is not that of its checkpoint"),
        ({"weights": random.weights}, "over random weights or over given ones, not over both"),
        ({"checkpoint": None}, "has no random weight"),
        ({"learned": {"fc.bias": torch.ones(8)}}, "fc.bias is both given and stored"),
        ({"checkpoint": ticket.checkpoint.only(["fc.weight"])}, "The mask of one.weight has no given weight"),
    ]:
        with pytest.raises(TicketError, match=says):
            replace(ticket, **changes)


@pytest.mark.parametrize("given", [{}, {"name": "x", "tensors": {"fc.weight": [[8, 6], "float32"]}}, 3, None])
def test_a_header_that_describes_no_checkpoint_is_refused(given):
    contents = searched().ticket().contents()
    data = encode(replace(contents, header={**contents.header, "given": given}))
    with pytest.raises(TicketError, match=r"given|tensors|fc.weight"):
        Ticket.from_bytes(data)


def test_a_mask_of_trained_chances_may_begin_with_nearly_all_weights():
    search = LearnedSupermask(pretrained(), weights="given", logit=4.0)
    kept = sum(int(mask.sum()) for mask in search.masks().values())
    assert kept > 0.9 * 136


def test_a_mask_by_a_threshold_is_over_given_weights_too():
    model = pretrained().eval()
    search = advance(SignedSupermask(model, weights="given", threshold=0.3))
    assert torch.equal(search.ticket().apply(Net(), given=tensors(pretrained())).eval()(INPUTS), model(INPUTS))


# ---- several processes


def ended(rank_of=None):
    """Return the masks of a search over given weights, of another checkpoint in the second process if asked."""
    from supermask import data, models
    from supermask.training.processes import launched

    torch.set_num_threads(1)
    torch.manual_seed(launched()[0] if rank_of else 0)
    model = models.build("lenet_300_100", input_shape=(1, 8, 8), width=0.1)
    search = EdgePopup(model, density=0.3, weights="given", scores=SCORES, learned=("*.bias",))
    if rank_of:
        for slot in search.network.learned.values():
            nn.init.zeros_(slot.parameter)
    try:
        train(search, data.load("synthetic", seed=0), Recipe(iterations=4, batch_size=64, evaluate_every=2), seed=0)
    except RunError as error:
        return str(error)
    return {name: mask.tolist() for name, mask in search.masks().items()}


def test_two_processes_share_one_checkpoint_or_are_refused():
    first, second = together(2, ended)
    assert first == second
    assert isinstance(first, dict)
    first, second = together(2, ended, True)
    assert "holds other parameters or masks than process 0" in first
