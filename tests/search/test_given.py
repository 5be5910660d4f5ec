"""Masks over given weights: what is kept is the model's own, and all else stays unless it is named."""

import copy
import math
import sys
from pathlib import Path

import pytest
import torch
from given_weights import INPUTS, LABELS, TAKE, Net, advance, pretrained, searched, tensors
from torch import nn

from supermask import Given, Ticket
from supermask.baselines.random_mask import RandomMask
from supermask.errors import RunError, SupermaskError, TicketError
from supermask.judge.controls import CONTROLS
from supermask.random.distributions import KaimingNormal
from supermask.search import SEARCHES, EdgePopup, LearnedSupermask, Search, SignedSupermask
from supermask.search.edge_popup import SCORES, EdgePopupRule
from supermask.superposition import Superposition
from supermask.superposition.learning import Learner
from supermask.training import Recipe, train

sys.path.append(str(Path(__file__).parents[1] / "training"))
from together import together

pytestmark = pytest.mark.filterwarnings("ignore:The scores of")
every_search = pytest.mark.parametrize("name", TAKE)


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
