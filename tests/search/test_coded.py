"""The search by a budget of bytes: gradients, noise, the budget, the code, and what it refuses."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supermask import Ticket, data, models
from supermask.errors import SupermaskError
from supermask.search import Coded
from supermask.search.coder import Coder
from supermask.training import Recipe, train

INPUTS = torch.randn(24, 30, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % 3


def network():
    return nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 3))


def advance(search, steps, optimizer=None):
    optimizer = optimizer or torch.optim.Adam(search.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model.train()(INPUTS), LABELS).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    return optimizer


def layer_of(search, name="0.weight"):
    return search._layers[name]


def divergence(chances, prior):
    return (chances * (chances / prior).log() + (1 - chances) * ((1 - chances) / (1 - prior)).log()).sum()


@pytest.mark.parametrize("prior", [None, 0.3])
def test_the_slope_of_the_divergence_is_that_of_finite_differences(prior):
    torch.manual_seed(0)
    search = Coded(network().double(), bytes=900, steps=10)
    layer, scores = layer_of(search), torch.randn(20, 30).double().requires_grad_()
    layer.settled[0, :7] = True
    layer.mask[0, :7] = torch.tensor([1, 0, 1, 1, 0, 0, 1]).bool()

    def whole(at):
        chances = torch.where(layer.settled, layer.mask.double().clamp(1e-12, 1 - 1e-12), torch.sigmoid(at))
        return divergence(chances, chances.mean() if prior is None else torch.tensor(prior).double())

    slope = layer.divergence_slope(scores.detach(), prior)
    assert torch.equal(slope[0, :7], torch.zeros(7).double())
    for place in [(0, 8), (3, 4), (19, 29), (7, 7)]:
        up, down = scores.detach().clone(), scores.detach().clone()
        up[place] += 1e-4
        down[place] -= 1e-4
        assert slope[place].item() == pytest.approx(((whole(up) - whole(down)) / 2e-4).item(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(9, 4), (6, 9)),
        (nn.Linear(9, 4), (2, 3, 9)),
        (nn.Conv1d(3, 4, 3, padding=1, bias=False), (10, 3, 7)),
        (nn.Conv2d(4, 6, 3, stride=2, groups=2, padding_mode="circular", padding=1), (9, 4, 8, 8)),
        (nn.Conv2d(2, 3, 3, dilation=2), (2, 7, 7)),
        (nn.Conv3d(2, 2, 2, bias=False), (3, 2, 3, 3, 3)),
    ],
    ids=str,
)
def test_gradients_through_the_noise_are_those_of_finite_differences(module, shape):
    model = nn.Sequential(copy.deepcopy(module).double())
    search = Coded(model, bytes=900, steps=10)
    inputs, scores = torch.randn(shape).double(), next(iter(search.scores().values()))
    scores.data.normal_()

    def loss():
        layer_of(search)._generator = None  # the same noise each time
        return model.train()(inputs).square().sum()

    loss().backward()
    for place in (0, scores.numel() // 2, scores.numel() - 1):
        before, ends = scores.data.view(-1)[place].item(), []
        for shift in (1e-5, -1e-5):
            scores.data.view(-1)[place] = before + shift
            ends.append(loss().item())
        scores.data.view(-1)[place] = before
        assert scores.grad.view(-1)[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("module", "shape"),
    [(nn.Linear(9, 4), (5, 9)), (nn.Conv2d(2, 3, 3), (5, 2, 4, 4)), (nn.ConvTranspose2d(2, 3, 2), (5, 2, 3, 3))],
    ids=str,
)
def test_noisy_outputs_have_the_mean_and_the_variance_of_sampled_masks(module, shape):
    # over 4,000 draws: means within 5 standard errors, variances within 15 %, which 6 standard errors of one are
    torch.manual_seed(1)
    model = nn.Sequential(copy.deepcopy(module))
    search = Coded(model, bytes=900, steps=10_000, weights="kaiming_normal")
    layer, scores = layer_of(search), next(iter(search.scores().values()))
    scores.data.normal_()
    inputs, made = torch.randn(shape), []
    with torch.no_grad():
        for number in range(4000):
            layer.key.fill_(number)
            layer._generator = None
            layer.noise.copy_(layer.normal(layer.noise))
            layer._generator = None
            made.append(model.train()(inputs))
        chances, plain = torch.sigmoid(scores), copy.deepcopy(module).requires_grad_(False)
        plain.bias.zero_()
        plain.weight.copy_(layer.frozen * chances)
        mean = plain(inputs)
        variance = torch.zeros_like(mean)
        for place in range(scores.numel()):
            one = torch.zeros(scores.numel())
            q = chances.view(-1)[place]
            one[place] = layer.frozen.view(-1)[place] * (q * (1 - q)).sqrt()
            plain.weight.copy_(one.view(scores.shape))
            variance += plain(inputs).square()
    found = torch.stack(made)
    assert ((found.mean(0) - mean).abs() <= 5 * (variance / 4000).sqrt() + 1e-5).all()
    assert ((found.var(0) / variance.clamp(min=1e-6)).sub(1).abs() < 0.15)[variance > 1e-4].all()


@given(st.integers(420, 700), st.integers(0, 100), st.integers(1, 30))
@settings(max_examples=12, deadline=None)
def test_the_file_has_at_most_the_bytes(budget, provenance, steps):
    search = Coded(network(), bytes=budget, provenance=provenance, steps=steps, memory=5, free=0.4)
    advance(search, steps)
    assert search.complete
    ticket = search.ticket()
    bare = search.network.ticket(search.masks(), {}, drawn=ticket.drawn)
    assert bare.size + provenance <= budget
    assert ticket.size <= budget
    assert Ticket.from_bytes(ticket.to_bytes()) == ticket
    assert all(torch.equal(ticket.masks[name], mask) for name, mask in search.masks().items())


def test_the_last_layer_alone_is_louder():
    plain, loud = (Coded(network(), bytes=900, steps=10, gain=gain) for gain in (1.0, 3.0))
    ratios = [
        float((loud_layer.frozen / layer.frozen).mean())
        for layer, loud_layer in zip(plain._state.layers.values(), loud._state.layers.values(), strict=True)
    ]
    assert ratios == pytest.approx([*[1.0] * (len(ratios) - 1), 3.0])


@pytest.mark.parametrize("budget", [350, 400])
def test_the_divergence_comes_to_what_the_bits_hold(budget):
    # 500 examples with random labels, which no budget is too large for
    inputs, labels = torch.randn(500, 30, generator=torch.Generator().manual_seed(3)), torch.arange(500) % 8
    model = nn.Sequential(nn.Linear(30, 60), nn.ReLU(), nn.Linear(60, 8))
    search = Coded(model, bytes=budget, provenance=0, steps=300, memory=6, free=0.9, drawing=0.05)
    optimizer = torch.optim.Adam(search.parameters(), lr=0.1)
    for _ in range(260):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(inputs), labels).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    scores = [each.detach().double() for each in search.scores().values()]
    found = sum(float(divergence(q := torch.sigmoid(each), q.mean())) for each in scores) / math.log(2)
    assert found == pytest.approx(search._state.progress.carried.bits / search.margin, rel=0.15)


def test_a_search_goes_on_between_two_blocks_as_if_it_had_not_stopped():
    def made():
        return Coded(network(), bytes=600, steps=20, memory=6, free=0.2, drawing=0.6)

    whole, first = made(), made()
    advance(whole, 20)
    optimizer = advance(first, 13)
    settled = layer_of(first).settled
    assert settled.any()
    assert not settled.all()
    second = made()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    other = torch.optim.Adam(second.parameters(), lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    advance(second, 7, other)
    assert second.ticket().to_bytes() == whole.ticket().to_bytes()


def test_what_is_settled_stays():
    search = Coded(network(), bytes=600, steps=20, memory=6, free=0.2, drawing=0.6)
    optimizer, before = None, {}
    for _ in range(20):
        optimizer = advance(search, 1, optimizer)
        for name, mask in search.masks().items():
            settled = layer_of(search, name).settled
            if name in before:
                earlier, there = before[name]
                assert torch.equal(mask[there], earlier[there])
                assert (settled | ~there).all()
            before[name] = (mask, settled.clone())
    assert all(layer_of(search, name).settled.all() for name in before)


def test_attention_and_recurrence_are_searched_too():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.memory = nn.GRU(8, 6, batch_first=True)
            self.out = nn.Linear(6, 3)

        def forward(self, inputs):
            mixed, _ = self.attention(inputs, inputs, inputs)
            return self.out(self.memory(mixed)[0][:, -1])

    inputs, steps = torch.randn(24, 5, 8, generator=torch.Generator().manual_seed(2)), 8
    search = Coded(Reader(), bytes=900, steps=steps, memory=6)
    optimizer = torch.optim.Adam(search.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        first, second = (search.model.train()(inputs) for _ in range(2))
        assert not torch.equal(first, second) or layer_of(search, "out.weight").settled.all()
        nn.functional.cross_entropy(first, LABELS).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    ticket = search.ticket()
    assert torch.equal(ticket.apply(Reader()).eval()(inputs), search.model.eval()(inputs))


def test_it_trains_on_digits_within_its_bytes():
    digits = data.load("digits", seed=0)
    model = models.build("lenet_300_100", input_shape=digits.input_shape, width=0.3)
    search = Coded(model, bytes=700, steps=200, memory=8)
    outcome = train(search, digits, Recipe(iterations=200, batch_size=64), seed=0, progress=False)
    assert outcome.best_step == 200
    assert outcome.test.accuracy > 0.6  # it was .77, and chance is .1
    assert search.ticket(model="lenet_300_100", data="digits").size <= 700


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bytes": 0}, "bytes=0"),
        ({"bytes": 900, "steps": None}, "give steps="),
        ({"bytes": 900, "steps": 0}, "steps=0"),
        ({"bytes": 900, "start": 1.0}, "start=1.0"),
        ({"bytes": 900, "gain": 0.5}, "gain=0.5"),
        ({"bytes": 900, "margin": 0.9}, "margin=0.9"),
        ({"bytes": 900, "margin": math.nan}, "margin=nan"),
        ({"bytes": 900, "sharpness": 0.0}, "sharpness=0.0"),
        ({"bytes": 900, "free": 0.8}, "free=0.8"),
        ({"bytes": 900, "free": math.nan}, "free=nan"),
        ({"bytes": 900, "blocks": 256}, "blocks=256"),
        ({"bytes": 900, "memory": 25}, "memory=25"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_the_model_alone(options, says):
    model = network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SupermaskError, match=says):
        Coded(model, **{"steps": 10, **options})
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_bytes_that_leave_none_for_the_masks_are_refused_before_anything_is_attached():
    model = network()
    with pytest.raises(SupermaskError, match="bytes=150 is too small: the file takes"):
        Coded(model, bytes=150, steps=10)
    assert not hasattr(model[0], "parametrizations")


def test_a_file_tells_of_itself_what_its_bytes_allow():
    model = {"name": "lenet_300_100", "input_shape": [1, 8, 8], "classes": 10, "width": 1.0}
    told = {}
    for budget in (380, 600):
        wide = nn.Sequential(nn.Linear(30, 100), nn.ReLU(), nn.Linear(100, 3))
        search = Coded(wide, bytes=budget, steps=4, memory=4)
        advance(search, 3)
        assert set(search.ticket(model=model).provenance) >= {"options", "versions", "model"}  # nothing is drawn yet
        advance(search, 1)
        ticket = search.ticket(recipe={"epochs": 3, "batch_size": 17}, data="digits", model=model)
        assert ticket.size <= budget
        assert ticket.provenance["model"] == model
        assert ticket.provenance["data"] == "digits"
        told[budget] = set(ticket.provenance)
    assert told[380] < {"algorithm", "options", "steps", "versions", "recipe", "data", "model"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_a_convolution_changes_nothing_of_its_code(layout, channels):
    def made():
        return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.Flatten())

    inputs = torch.randn(16, channels, 5, 5, generator=torch.Generator().manual_seed(5))
    model = made()
    search = Coded(model, bytes=500, steps=12, memory=6)
    model.to(memory_format=layout)
    optimizer = torch.optim.Adam(search.parameters(), lr=0.1)
    for _ in range(12):
        optimizer.zero_grad()
        batch = inputs.contiguous(memory_format=layout)
        nn.functional.cross_entropy(model.train()(batch), torch.arange(16) % 5).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    ticket = search.ticket()
    assert ticket.drawn
    assert Ticket.from_bytes(ticket.to_bytes()) == ticket
    assert torch.allclose(ticket.apply(made()).eval()(inputs), model.eval()(inputs), atol=1e-6)


def test_a_layer_of_many_bits_remembers_less_so_that_drawing_fits_into_memory():
    coder = Coder({"small": 10_000, "large": 9_000_000}, bits=8_000_000)
    coder.allot({name: torch.rand(count) for name, count in coder.counts.items()}, blocks=16, memory=14)
    for name, most in (("small", 14), ("large", 13)):
        drawn = coder.codes[name].mask
        assert drawn.bits.size // drawn.blocks << drawn.memory <= 1 << 26
        assert drawn.memory <= most
    assert coder.codes["small"].mask.memory == 14


def test_the_bytes_of_the_masks_are_a_tenth_above_their_divergence_at_most(monkeypatch):
    # that of each block just before it is drawn; 4,000 examples with random labels take all bits
    spent, draw = [], Coder.draw

    def measured(coder, seed, name, chances, part, sharpness):
        code = coder.codes[name]
        flat = chances.detach().double().flatten()
        before, plan = code.settled, code.mask.plan(seed, name, flat.numel())
        made = draw(coder, seed, name, chances, part, sharpness)
        parts = (flat[plan.entries(block)] for block in range(before, code.settled))
        spent.extend(float(divergence(part, code.chance)) / math.log(2) for part in parts)
        return made

    monkeypatch.setattr(Coder, "draw", measured)
    inputs, labels = torch.randn(4000, 30, generator=torch.Generator().manual_seed(3)), torch.arange(4000) % 30
    model = nn.Sequential(nn.Linear(30, 300), nn.ReLU(), nn.Linear(300, 30))
    search = Coded(model, bytes=1500, provenance=0, steps=250, memory=6)
    optimizer = torch.optim.Adam(search.parameters(), lr=0.1)
    for _ in range(250):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(inputs), labels).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    coded = sum(len(each.to_bytes()) for each in search.ticket().drawn.values())
    print(f"{coded} bytes over a divergence of {sum(spent) / 8:.0f}: {8 * coded / sum(spent):.3f}")
    assert sum(spent) / 8 > 1000
    assert 8 * coded / sum(spent) <= 1.10
