"""Random networks of one layer more than the target: their masks, their certificate, and what they refuse."""

import itertools

import numpy as np
import pytest
import torch
from small_cnns import attack, filled, noise
from torch import nn

from supermask import Ticket
from supermask.errors import SupermaskError
from supermask.models.sequence import from_description
from theory import construct_shallow, shallow
from theory.domains import Box, Nonnegative


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr("theory.ascent.STEPS", 10)
    monkeypatch.setattr("theory.ascent.STARTS", 48)


def chain(*sizes, bias=True, seed=0):
    modules = []
    for inputs, outputs in itertools.pairwise(sizes):
        modules += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return filled(*modules[:-1], seed=seed)


def by_hand(ticket, x):
    """Return what the ticket's random weights and masks compute, layer by layer, without the network."""
    grown = ticket.random_weights()
    kept = {name: grown[name].double() * mask for name, mask in ticket.masks.items()}
    names = sorted({name.split(".")[0] for name in kept}, key=int)
    for name in names:
        x = x @ kept[f"{name}.weight"].T + kept[f"{name}.bias"]
        x = x if name == names[-1] else x.relu()
    return x


@torch.no_grad()
def test_it_has_one_layer_more_than_the_target_and_random_biases_in_all():
    target = chain(3, 4, 3, 2)
    built = construct_shallow(target, 0.1)
    layers = [module for module in built.network if isinstance(module, nn.Linear)]
    assert len(layers) == 3 + 1
    grown = built.ticket.random_weights()
    assert all(grown[f"{2 * place}.bias"].ne(0.0).all() for place in range(4))
    assert built.ticket.prunable == sum(each.numel() for each in built.network.parameters())
    # each hidden unit of the target has copies, which compute nearly what it does
    x = noise(30, 3) / 2
    hidden, wanted = built.network[:6](x), target[:4](x)
    copies = built.widths[2]
    found = hidden[:, : 3 * copies].reshape(30, 3, copies)
    assert float((found - wanted[:, :, None]).abs().max()) < 0.1
    assert float((found[:, :, 0] - found[:, :, 1]).abs().max()) > 0.0
    constants = hidden[:, 3 * copies :]
    assert torch.equal(constants, constants[:1].expand_as(constants))
    assert constants.any()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(3, 4, 2), (2, 3, 3, 2), (1, 1, 1)], ids=str)
def test_the_certificate_holds_and_the_ticket_is_the_network(sizes, bias, norm):
    target = chain(*sizes, bias=bias, seed=len(sizes))
    built = construct_shallow(target, 0.05, norm=norm, seed=3)
    assert built.within
    found = attack(target, built.network, (sizes[0],), radius=1.0, norm=norm, seed=1)
    assert 0.0 < found <= built.certificate.upper
    assert 0.0 < built.certificate.lower <= built.certificate.upper
    x = noise(20, sizes[0])
    torch.testing.assert_close(by_hand(built.ticket, x), built.network(x), rtol=1e-12, atol=1e-12)
    ticket = Ticket.from_bytes(built.ticket.to_bytes())
    network = ticket.apply(from_description(ticket.provenance["model"]["modules"]).double())
    assert torch.equal(network(x), built.network(x))


@pytest.mark.parametrize("seed", range(10))
def test_no_error_above_upper_of_random_targets(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 5, int(random.integers(3, 5))).tolist()
    norm, radius = ("l2", "linf")[seed % 2], float(10.0 ** random.uniform(-3, 3))
    target = chain(*sizes, bias=bool(seed % 3), seed=seed)
    for parameter in target.parameters():
        parameter.data *= 10.0 ** random.uniform(-1, 1)
    width = None if seed % 5 else int(random.integers(1, 12))  # too few: the certificate has to say so
    domain = (None, Nonnegative(radius), Box(-0.5 * radius, radius))[seed % 3]
    options = {"radius": radius} if domain is None else {"domain": domain}
    built = construct_shallow(target, 10.0 ** random.uniform(-4, 0), seed=seed, norm=norm, width=width, **options)
    x = noise(400, sizes[0], seed=seed)
    x = radius * x / (x.norm(dim=1, keepdim=True) if norm == "l2" else x.abs().amax(dim=1, keepdim=True))
    x = x if domain is None else (x.abs() if seed % 3 == 1 else x.clamp(-0.5 * radius, radius))
    with torch.no_grad():
        off = target(x) - built.network(x)
    found = float((off.norm(dim=1) if norm == "l2" else off.abs().amax(dim=1)).max())
    assert max(found, built.certificate.lower) <= built.certificate.upper


@torch.no_grad()
def test_the_errors_are_those_of_the_worst_copies():
    target = chain(3, 2, 2, seed=2)
    built = construct_shallow(target, 0.5, width=7)
    copies = built.widths[1]
    part, eye = built.network[:3], torch.eye(3, dtype=torch.float64)
    zero = part(torch.zeros(1, 3, dtype=torch.float64))
    halves = [(sign * (part(sign * eye) - zero)).T[: 2 * copies] for sign in (1.0, -1.0)]
    wanted = target[0].weight.detach().repeat_interleave(copies, dim=0)
    apart = torch.stack([(half - wanted).abs() for half in halves]).amax(dim=0).reshape(2, copies, 3).amax(dim=1)
    torch.testing.assert_close(torch.from_numpy(built.errors[0][:, :3]), apart, rtol=1e-9, atol=1e-12)
    last = built.network[4].weight[:, : 2 * copies].reshape(2, 2, copies).sum(-1)
    apart = (last - target[2].weight.detach()).abs()
    torch.testing.assert_close(torch.from_numpy(built.errors[1][:, :2]), apart, rtol=1e-9, atol=1e-12)


def test_differences_of_copies_that_do_not_cancel_are_counted():
    """Were they carried by the norm of the target's layer alone, the bound would be below what copies can do."""
    built = construct_shallow(chain(2, 3, 2, seed=1), 0.1)
    second = built.network[4].weight.detach().numpy()
    copies = built.widths[1]
    mass = np.abs(second[:, : 3 * copies]).reshape(2, 3, copies).sum(-1)
    assert built.certificate.per_layer[1].target_norm >= np.linalg.norm(mass, 2) * (1 - 1e-12)
    own = np.linalg.norm(built.target.layers[1].kernel[:, :, 0, 0], 2)
    assert built.certificate.per_layer[1].target_norm > 2.0 * own


WRONG = {
    "one layer": nn.Linear(3, 2),
    "a convolution": nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)),
    "no ReLU": nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)),
    "a ReLU last": nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()),
    "a leaky ReLU": nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.1), nn.Linear(2, 1)),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_targets_are_refused(name):
    target = WRONG[name] if isinstance(WRONG[name], nn.Sequential) else nn.Sequential(WRONG[name])
    options = {"domain": Box(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))} if name == "a convolution" else {}
    with pytest.raises(SupermaskError, match=r"^one_more_layer is for chains of at least two Linear layers .*\.$"):
        construct_shallow(target, 0.1, **options)


def test_what_memory_may_not_hold_is_refused(monkeypatch):
    monkeypatch.setattr("theory.constructions.random_pair.MOST_WEIGHTS", 1_000)
    with pytest.raises(SupermaskError, match=r"more than the 1,000 that are built; give a smaller width\.$"):
        construct_shallow(chain(3, 4, 2), 0.1)
    assert shallow.NAME == "one_more_layer"
