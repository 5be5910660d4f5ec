"""Transformers in one random transformer: what is read, what is pruned, and a certificate that nothing exceeds."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from supermask import Ticket
from supermask.errors import SupermaskError
from supermask.models.char_gpt import CharGPT
from theory.attention import NearSequences, TokenBall, construct_transformer, network_of
from theory.attention import certificate as certificates
from theory.attention.maps import LinearMap
from theory.attention.near import bound_near
from theory.attention.network import WideAttention
from theory.attention.parts import Activate, Normalise, maps_of, run, with_maps
from theory.attention.reading import read_transformer, run_target
from theory.attention.steps import GELU_SLOPE, moved_weights, normalised_slope


@pytest.fixture(autouse=True)
def _short_search(monkeypatch):
    monkeypatch.setattr(certificates, "STEPS", 5)
    monkeypatch.setattr(certificates, "STARTS", 8)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(module, size=0.5, seed=0):
    module = module.double().eval()
    for place, parameter in enumerate(module.parameters()):
        parameter.data = size * noise(*parameter.shape, seed=100 * seed + place)
    return module


def attention(units=6, heads=2, *, bias=True, batch_first=True, seed=0):
    return filled(nn.MultiheadAttention(units, heads, bias=bias, batch_first=batch_first), seed=seed)


def encoder(activation="gelu", layers=2, seed=0):
    layer = nn.TransformerEncoderLayer(8, 2, 12, activation=activation, norm_first=True, batch_first=True)
    return filled(nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), seed=seed)


def characters(seed=0):
    return filled(CharGPT(7, 5, units=8, layers=1), seed=seed)


def in_ball(*shape, radius, seed):
    x = noise(*shape, seed=seed)
    return radius * x / x.norm(dim=-1, keepdim=True)


def apart(built, x):
    with torch.no_grad():
        off = run_target(built.target, x, causal=built.causal) - built.network(x)
    return float(off.norm(dim=-1).max()), float(off.abs().max())


@torch.no_grad()
def by_hand(weight, bias, out, x, heads, causal):
    """Attention as its definition says, one query at a time."""
    units = x.shape[1]
    size, found = units // heads, torch.zeros_like(x)
    projected = x @ weight.T + bias
    for t in range(len(x)):
        read = []
        for head in range(heads):
            query, key, value = (
                projected[:, i * units + head * size : i * units + (head + 1) * size] for i in range(3)
            )
            seen = t + 1 if causal else len(x)
            strengths = torch.stack([(query[t] @ key[u] / math.sqrt(size)).exp() for u in range(seen)])
            read.append((strengths / strengths.sum()).double() @ value[:seen])
        found[t] = out.weight @ torch.cat(read) + out.bias
    return found


@pytest.mark.parametrize("causal", [False, True])
def test_the_parts_and_the_network_are_attention_by_its_definition(causal):
    target = attention()
    built = construct_transformer(target, 1e-4, domain=TokenBall(2.0), causal=causal)
    x = noise(3, 5, 6, seed=4)
    wanted = torch.stack([
        by_hand(target.in_proj_weight, target.in_proj_bias, target.out_proj, each, 2, causal) for each in x
    ])  # fmt: skip
    assert torch.allclose(run(built.parts, x), wanted, atol=1e-11)
    assert torch.allclose(built.network(x), wanted, atol=1e-3)
    assert torch.allclose(run(built.effective, x), built.network(x), atol=1e-11, rtol=0)


TARGETS = {
    "attention": (attention, False),
    "causal": (lambda seed=0: attention(seed=seed), True),
    "without biases": (lambda seed=0: attention(bias=False, seed=seed), False),
    "batch second": (lambda seed=0: attention(batch_first=False, seed=seed), True),
    "encoder": (encoder, False),
    "encoder of ReLUs": (lambda seed=0: encoder("relu", 1, seed), True),
}


@pytest.mark.parametrize("width", [4, 14, None])
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_above_the_certificate(name, width):
    """A width of 4 misses weights by so much that nothing is small."""
    make, causal = TARGETS[name]
    target = make(seed=3)
    units = 8 if "encoder" in name else 6
    if width is None and "encoder" in name:
        width = 20  # no width brings a bound through normalisations below epsilon
    built = construct_transformer(target, 0.01, domain=TokenBall(1.5), causal=causal, width=width, seed=1)
    hostile = torch.cat([in_ball(60, 4, units, radius=1.5, seed=2), _alike(units, 1.5)])
    found, entry = apart(built, hostile)
    assert built.certificate.upper >= max(found, built.certificate.lower) > 0.0
    assert built.certificate.entry >= entry
    if width is None:
        assert built.within
        assert built.certificate.upper <= 12.0 * found
    for radius in (0.0, 1e-4, 0.05, 1.0):
        points = in_ball(5, 4, units, radius=1.0, seed=7)
        near = built.certify(NearSequences(points, radius))
        moves = in_ball(30, 4, units, radius=radius, seed=8) if radius else torch.zeros(30, 4, units).double()
        found, entry = apart(built, torch.cat([points, points.repeat(6, 1, 1) + moves]))
        assert near.upper >= max(found, near.lower)
        assert near.entry >= entry
        if not radius:
            assert near.upper <= found + 1e-6  # rounding, through two blocks
        assert built.certify(NearSequences(points, 2.0 * radius)).upper >= near.upper


def _alike(units, radius):
    """Return sequences whose tokens are ends of axes: scores as far apart as they come."""
    ends = torch.cat([torch.eye(units), -torch.eye(units)]).double() * radius
    choice = torch.randint(len(ends), (60, 4), generator=torch.Generator().manual_seed(5))
    return ends[choice]


def test_gradient_ascent_on_the_target_finds_nothing_above_the_certificate():
    """Long, from many starts, on the networks themselves, at a width where the bound is nearly reached."""
    built = construct_transformer(attention(seed=5), 1e-3, domain=TokenBall(2.0), width=12, seed=2)
    moves = in_ball(40, 3, 6, radius=2.0, seed=1).requires_grad_()
    found = 0.0
    for _ in range(150):
        off = (run_target(built.target, moves, causal=False) - built.network(moves)).norm(dim=-1).amax(dim=-1)
        found = max(found, float(off.detach().max()))
        (gradient,) = torch.autograd.grad(off.sum(), moves)
        with torch.no_grad():
            moves = moves + 0.2 * gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=1e-300)
            moves = (moves * (2.0 / moves.norm(dim=-1, keepdim=True)).clamp(max=1.0)).requires_grad_()
    assert 0.2 * built.certificate.upper <= found <= built.certificate.upper


@pytest.mark.parametrize("width", [5, 16])
def test_a_character_transformer_stays_within_its_certificate(width):
    built = construct_transformer(characters(seed=1), 0.05, domain=TokenBall(), width=width, seed=3)
    ids = torch.randint(7, (60, 5), generator=torch.Generator().manual_seed(0))
    found, _ = apart(built, ids)
    assert found <= built.certificate.upper < math.inf
    at = built.certify(NearSequences(ids))
    found, entry = apart(built, ids)
    assert found <= at.upper <= found * (1.0 + 1e-6)
    assert entry <= at.entry <= entry * (1.0 + 1e-6)
    # and where what is embedded is moved, in both alike
    near = built.certify(NearSequences(ids, 1e-3))
    moves = in_ball(60, 5, 8, radius=1e-3, seed=4)
    with torch.no_grad():
        wanted = built.target.tokens(ids) + built.target.places(torch.arange(5)) + moves
        wanted = built.target.head(built.target.norm(built.target.blocks(wanted)))
        given = built.network[1:](built.network[0](ids) + moves)
    assert float((wanted - given).norm(dim=-1).max()) <= near.upper


def test_rounding_of_nearly_equal_entries_is_covered():
    """Against numbers of 64 bits of mantissa: most of it is that of means, and nothing else is there."""
    parts = (Normalise(8, 1e-5),)
    points = 1e4 + in_ball(6, 4, 8, radius=5.0, seed=1)
    x = points.numpy().astype(np.longdouble)
    centred = x - x.mean(axis=-1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.longdouble(1e-5))
    off = np.sqrt(((run(parts, points).numpy() - exact) ** 2).sum(axis=-1)).max()
    bounds = bound_near(parts, parts, NearSequences(points))
    assert 1e-15 < float(off) <= bounds.token <= 1e-3


def test_one_network_one_mask_one_file(tmp_path):
    target = characters()
    built = construct_transformer(target, 1e-3, domain=NearSequences(torch.randint(7, (4, 5))), seed=5)
    assert built.within
    built.ticket.save(tmp_path / "characters.ticket")
    ticket = Ticket.load(tmp_path / "characters.ticket")
    assert ticket == built.ticket
    other = network_of(ticket, CharGPT(7, 5, units=8, layers=1))
    ids = torch.randint(7, (3, 5))
    assert torch.equal(other(ids), built.network(ids))
    assert not ticket.learned
    assert set(ticket.masks) == set(dict(built.network.named_parameters()))
    for name, parameter in built.network.named_parameters():
        assert not bool(parameter[~ticket.masks[name]].any())
        assert bool((parameter[ticket.masks[name]] == ticket.random_weights()[name][ticket.masks[name]].double()).all())
    attentions = [each for each in built.network.modules() if isinstance(each, WideAttention)]
    assert len(attentions) == 1
    assert attentions[0].heads == 4


def test_wider_heads_meet_weights_better():
    worst = []
    for width in (8, 12, 16):
        errors = [
            float(np.median(np.concatenate([each.reshape(-1) for each in built.errors])))
            for built in (construct_transformer(attention(seed=s), 1e-12, width=width, seed=s) for s in range(2))
        ]
        worst.append(sum(errors))
    # each four items are about sixteen times better; half of that is far from chance for medians of 150 weights
    assert worst[0] > 6.0 * worst[1] > 36.0 * worst[2]


def test_the_bound_of_weights_covers_every_corner():
    """Brute force over moves at their ends, where the extremes of a ratio of exponentials are."""
    for seed in range(30):
        weights = noise(1, 4, seed=seed).mul(3.0).softmax(dim=-1)
        moves = noise(1, 4, seed=100 + seed).abs() * 10.0 ** (seed % 5 - 3)
        corners = torch.tensor([[1.0 if i >> j & 1 else -1.0 for j in range(4)] for i in range(16)]).double()
        moved = (weights.log() + corners * moves).softmax(dim=-1)
        found = (moved - weights).abs().amax(dim=0)
        bound = moved_weights(weights, moves)[0]
        assert bool((bound >= found * (1.0 - 1e-12)).all())
        assert float((bound / found.clamp(min=1e-300)).min()) <= 8.0


def test_slopes_are_those_of_the_functions():
    x = torch.linspace(-6.0, 6.0, 200_001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(nn.functional.gelu(x).sum(), x)
    assert 1.1289 < float(slopes.abs().max()) <= GELU_SLOPE
    part, z = Normalise(5, 1e-3), noise(5, seed=2)
    z = 0.1 * (z - z.mean()) / (z - z.mean()).norm()
    jacobian = torch.autograd.functional.jacobian(lambda at: run((part,), at), z)
    found = float(torch.linalg.matrix_norm(jacobian, 2))
    assert found <= float(normalised_slope(part, torch.tensor(0.1, dtype=torch.float64))) <= found * (1.0 + 1e-6)


def test_maps_go_back_to_their_places():
    parts = read_transformer(encoder())
    again = with_maps(parts, maps_of(parts))
    x = noise(2, 3, 8)
    assert torch.equal(run(parts, x), run(again, x))
    doubled = with_maps(parts, (LinearMap(2.0 * m.matrix, m.offset, m.mass, m.offset_mass, m.terms)
                                for m in maps_of(parts)))  # fmt: skip
    assert not torch.allclose(run(parts, x), run(doubled, x))
    assert len(list(maps_of(parts))) == 2 * (2 * 2 + 2)
    assert Activate("gelu") in parts[1].parts


class Odd(nn.MultiheadAttention):
    pass


def hooked():
    target = attention()
    target.register_forward_hook(lambda module, given, found: (2.0 * found[0], found[1]))
    return target


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: construct_transformer(nn.Linear(3, 3), 0.1),
            r"^A Linear is not read as a transformer; known are Multi",
        ),
        (lambda: construct_transformer(Odd(4, 2), 0.1), r"^A Odd is not read as a transformer"),
        (lambda: construct_transformer(hooked(), 0.1), r"does not compute what its modules say; give plain modules"),
        (
            lambda: construct_transformer(nn.MultiheadAttention(4, 2, kdim=3), 0.1),
            r"^Only attention of a sequence to it",
        ),
        (lambda: construct_transformer(nn.TransformerEncoderLayer(4, 2, 8), 0.1), r"only layers with norm_first=True"),
        (lambda: construct_transformer(attention(), 0.0), r"^epsilon=0\.0 must be a positive number\.$"),
        (lambda: construct_transformer(attention(), 0.1, width=0), r"^width=0 is not a number of hidden units"),
        (lambda: construct_transformer(attention(), 0.1, seed=-1), r"^seed=-1 is out of range"),
        (lambda: TokenBall(0.0), r"^radius=0\.0 must be a positive number\.$"),
        (lambda: TokenBall(1.0, length=0), r"^length=0 must be at least 1\.$"),
        (lambda: NearSequences(torch.zeros(2, 3)), r"^The sequences have the shape \(2, 3\); give tokens"),
        (lambda: NearSequences(torch.full((1, 2, 3), math.nan)), r"^The sequences hold NaN or infinity\.$"),
        (
            lambda: construct_transformer(attention(), 0.1, domain=NearSequences(torch.zeros(1, 2, 5))),
            r"^The sequences have the shape \(1, 2, 5\); the target takes \(sequences, T, 6\)\.$",
        ),
        (
            lambda: construct_transformer(characters(), 0.1, domain=NearSequences(torch.full((1, 2), 7))),
            r"^The sequences hold ids outside of 0 to 6\.$",
        ),
        (
            lambda: construct_transformer(characters(), 0.1, domain=NearSequences(torch.zeros(1, 6).long())),
            r"^The target takes ids of the shape \(sequences, T\), with T at most 5\.$",
        ),
        (lambda: network_of(built_elsewhere(), attention()), r"^The ticket is not one of a transformer that was built"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(SupermaskError, match=sentence):
        make()


def built_elsewhere():
    from theory import construct

    return construct(nn.Sequential(nn.Linear(2, 2)), 0.1).ticket


def test_a_target_with_infinite_weights_is_refused():
    target = attention()
    target.in_proj_weight.data[0, 0] = math.inf
    with pytest.raises(SupermaskError, match=r"^The target has weights that are NaN or infinite\.$"):
        construct_transformer(target, 0.1)
