"""Gradients from forward passes alone against those of a backward pass."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supermask import data, models
from supermask.errors import SupermaskError
from supermask.runs import Job, SearchOptions, run
from supermask.search import EdgePopup, NodePerturbation
from supermask.training import Recipe, train

ALL = 10**6  # more directions than any layer has units: every unit then has a pass of its own
TINY = 1e-6  # noise that crosses no kink here, in double precision
T = 7.0
"""Standard errors that a mean error over 40 steps may have: Student's t with 39 degrees of freedom is beyond with
probability 2e-8, and one of the 1,400 entries below is with 3e-5."""


class Residual(nn.Module):
    """A layer around which its inputs go too, and two layers of one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.around, self.again, self.last = (
            nn.Linear(*sizes) for sizes in ((7, 6), (6, 6), (6, 6), (6, 4))
        )
        self.again.weight = self.around.weight

    def forward(self, images):
        hidden = self.first(images.flatten(1)).tanh()
        hidden = self.again(hidden + self.around(hidden).relu()).relu()
        return self.last(hidden)


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=(2, 1), stride=(1, 2), groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),  # 8x5 to 4x2
        nn.Conv2d(4, 6, 2, dilation=(3, 1)),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def tokens():
    return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 3), nn.Flatten(), nn.Linear(9, 4))


def small():
    return nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 4))


NETWORKS = {
    "small": (small, (7,)),
    "residual": (Residual, (7,)),
    "convolutions": (convolutions, (2, 6, 9)),
    "tokens": (tokens, (3, 7)),
    # logits are no layer's own output, so that even the last layer is given noise
    "scaled logits": (lambda: nn.Sequential(small(), nn.Softplus()), (7,)),
}


def batch(shape, size=5):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, *shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 4, (size,), generator=generator)


def searched(make=small, **options):
    asked = {"density": 0.5, "noise": TINY, "bias": "learned"} | options
    torch.manual_seed(0)  # of the learned biases, which the search leaves as they are
    return NodePerturbation(make().double(), **asked)


def taken(search):
    """Return the gradients of all that is trained, one after another, and leave none."""
    found = torch.cat([parameter.grad.flatten() for parameter in search.parameters()])
    search.model.zero_grad()
    return found


def estimated(search, images, labels):
    search.estimate(images, labels)
    return taken(search)


def exact(search, images, labels):
    cross_entropy(search.model(images), labels).backward()
    return taken(search)


def close(found, truth):
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-6)  # the curvature leaves a bias of the noise's size


@pytest.mark.parametrize("options", [{}, {"score": "signed", "feedback_rate": 0.0}], ids=["magnitudes", "signed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_pass_for_each_unit_gives_the_gradient_of_a_backward_pass(name, options):
    make, shape = NETWORKS[name]
    search, (images, labels) = searched(make, directions=ALL, **options), batch(shape)
    for step in range(3):  # later ones with feedback
        search.steps = step
        close(estimated(search, images, labels), exact(search, images, labels))


def test_learned_weights_and_masked_biases_have_gradients_too():
    options = {"learned": ("0.weight",), "include": ("2.bias",), "dense": ("4.weight",)}
    search, (images, labels) = searched(directions=ALL, **options), batch((7,))
    close(estimated(search, images, labels), exact(search, images, labels))


@pytest.mark.parametrize("rate", [0.0, 0.05])
@pytest.mark.parametrize("name", NETWORKS)
def test_few_directions_are_right_on_average(name, rate):
    make, shape = NETWORKS[name]
    search, (images, labels) = searched(make, directions=2, feedback_rate=rate), batch(shape)
    truth = exact(search, images, labels)
    # 40 copies of each example, each with noise of its own, have the gradient of one
    images, labels = images.repeat(40, *(1 for _ in shape)), labels.repeat(40)
    found = []
    for step in range(40):
        search.steps = step
        found.append(estimated(search, images, labels))
    errors = torch.stack(found) - truth
    standard = errors.std(0) / len(errors) ** 0.5
    assert (errors.mean(0).abs() <= T * standard + 1e-6).all()
    assert torch.cosine_similarity(errors.mean(0) + truth, truth, dim=0) > 0.98
    single = batch(shape)
    assert torch.cosine_similarity(estimated(search, *single), truth, dim=0) < 0.99, "one estimate is noisy"


def test_learned_feedback_takes_noise_off_and_more_directions_do_too():
    images, labels = batch((7,), size=40)

    def error(**options):
        search = searched(**options)
        truth = exact(search, images, labels)
        found = []
        for step in range(100):
            search.steps = step
            found.append(estimated(search, images, labels))
        return (torch.stack(found[50:]) - truth).square().mean()

    plain = error(directions=2, feedback_rate=0.0)
    assert error(directions=2, feedback_rate=0.05) < 0.7 * plain
    assert error(directions=4, feedback_rate=0.0) < 0.7 * plain


def test_the_last_layer_is_exact_with_any_noise():
    search, (images, labels) = searched(directions=1, noise=0.5), batch((7,))
    search.estimate(images, labels)
    last = search.scores()["4.weight"].grad.clone()
    search.model.zero_grad()
    exact_loss = cross_entropy(search.model(images), labels)
    exact_loss.backward()
    torch.testing.assert_close(last, search.scores()["4.weight"].grad, rtol=1e-12, atol=1e-15)
    assert search.estimate(images, labels) == exact_loss


def test_noise_comes_from_the_seed_the_layer_and_the_step():
    images, labels = batch((7,))

    def first(step=0, directions=2):
        search = searched(directions=directions)
        search.steps = step
        return estimated(search, images, labels)

    assert torch.equal(first(), first())
    assert not torch.equal(first(), first(step=1))
    # one part with all units, so that nothing but the signs differs
    assert not torch.equal(first(directions=1), first(step=1, directions=1))
    before = torch.get_rng_state()
    first()
    assert torch.equal(torch.get_rng_state(), before)


class NoBackward(torch.autograd.Function):
    """Raises where a backward pass goes through."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError("a backward pass")


class Guarded(nn.Module):
    def forward(self, values):
        return NoBackward.apply(values)


def test_the_loop_makes_no_graph_and_no_backward_pass():
    digits = data.load("synthetic", seed=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10), Guarded())
    search = NodePerturbation(model, density=0.5, bias="learned")

    def refuse(tensor):
        raise AssertionError("a graph")

    with torch.autograd.graph.saved_tensors_hooks(refuse, refuse):
        outcome = train(search, digits, Recipe(iterations=5, batch_size=32), seed=0)
        assert outcome.steps == search.steps == 5
        with pytest.raises(AssertionError, match="a graph"):  # the guard works
            model(torch.zeros(1, 64))
    assert not any(parameter.grad.requires_grad for parameter in search.parameters())


def test_passes_are_counted_as_the_network_is_called():
    make, shape = NETWORKS["convolutions"]
    search, (images, labels) = searched(make, directions=3), batch(shape)
    calls = []
    search.model.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    search.estimate(images, labels)
    assert search.forward_passes == sum(calls) == 5 * (1 + 3 + 3)
    # by hand: outputs of 8x5 and, after the pooling, 1x1; each times its inputs
    layers = [4 * 8 * 5 * 9, 6 * 4 * 4, 4 * 6]
    assert search.multiply_adds == 5 * (sum(layers) + 3 * sum(layers[1:]) + 3 * layers[2])
    search.estimate(images, labels)
    assert search.forward_passes == 2 * 5 * 7


def test_layers_before_the_noise_are_not_run_again():
    search, (images, labels) = searched(directions=2), batch((7,))
    runs = {0: 0, 2: 0, 4: 0}
    for place in runs:
        layer = search.model[place]
        forward = type(layer).forward

        def counting(self, inputs, place=place, forward=forward):
            runs[place] += 1
            return forward(self, inputs)

        type(layer).forward = counting  # each parametrized layer has a class of its own
    search.estimate(images, labels)
    assert runs == {0: 1, 2: 1 + 2, 4: 1 + 2 + 2}


def advance(search, optimizer, steps):
    images, labels = batch((7,), size=20)
    for _ in range(steps):
        optimizer.zero_grad()
        search.estimate(images, labels)
        optimizer.step()
        search.step()


def optimizer_of(search):
    return torch.optim.SGD(search.parameters(), lr=0.1, momentum=0.9)


def test_a_search_that_was_stopped_goes_on_bit_for_bit():
    whole, half, other = searched(), searched(), searched()
    advance(whole, optimizer_of(whole), 12)
    optimizer = optimizer_of(half)
    advance(half, optimizer, 5)
    state = copy.deepcopy({"search": half.state_dict(), "optimizer": optimizer.state_dict()})
    advance(half, optimizer, 3)  # what the state holds does not change
    optimizer = optimizer_of(other)
    other.load_state_dict(state["search"])
    optimizer.load_state_dict(state["optimizer"])
    advance(other, optimizer, 7)
    one, two = whole.state_dict(), other.state_dict()
    assert one["estimator"]["forward_passes"] == two["estimator"]["forward_passes"] == 12 * 20 * 15
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])
    feedback = one["estimator"]["feedback"]
    assert {*feedback} == {"0", "2"}
    assert all(torch.equal(feedback[name], two["estimator"]["feedback"][name]) for name in feedback)


def test_it_learns_and_a_backward_pass_makes_it_edge_popup():
    images, labels = batch((7,), size=20)
    search = searched()
    optimizer = optimizer_of(search)
    before = float(search.estimate(images, labels))
    advance(search, optimizer, 30)
    assert float(search.estimate(images, labels)) < 0.5 * before
    plain = EdgePopup(small().double(), density=0.5)
    assert torch.equal(exact(searched(bias="none"), images, labels), exact(plain, images, labels))


def test_estimates_of_two_batches_add_up():
    search, (images, labels) = searched(feedback_rate=0.0), batch((7,))
    once = estimated(search, images, labels)
    search.estimate(images, labels)
    search.estimate(images, labels)
    torch.testing.assert_close(taken(search), 2 * once)


def test_a_run_says_how_many_passes_it_made(tmp_path):
    recipe = Recipe(epochs=4, batch_size=64)
    job = Job(method="node_perturbation", data="digits", recipe=recipe, search=SearchOptions(density=0.5))
    result = run(job, tmp_path / "run", progress=False)
    passes = result.details
    assert passes.forward_passes == 4 * 20 * 64 * (1 + 8 + 8)
    assert 0.15 < passes.multiply_adds / (4 * 20 * 64 * (64 * 300 + 30_000 + 1000)) / 17 < 0.5
    assert result.test.accuracy > 0.8


class Called(nn.Module):
    """What a network does with one linear layer of 7 inputs and 7 outputs."""

    def __init__(self, forward, layer=None):
        super().__init__()
        self.layer, self.last, self.how = layer or nn.Linear(7, 7), nn.Linear(7, 4), forward

    def forward(self, images):
        return self.how(self, images)


@pytest.mark.parametrize(
    ("how", "layer", "says"),
    [
        (lambda net, x: net.last(net.layer(net.layer(x))), None, "layer is called twice"),
        (lambda net, x: net.last(net.layer(x.repeat(2, 1))[: len(x)]), None, "layer returns 10 rows for 5 examples"),
        (lambda net, x: net.last(x @ net.layer.weight), None, "layer.weight is read by .*Linear"),
        (lambda net, x: net.last(net.layer(x).squeeze(0)), nn.Bilinear(7, 7, 7), "layer.weight is read by .*Bilinear"),
        (lambda net, x: net.last(net.layer(x))[:, None], None, r"\(batch, classes\)"),
        (lambda net, x: net.last(net.layer(x)), nn.Sequential(nn.Linear(7, 7), nn.Dropout(0.2)), "layer.1 drops"),
        (lambda net, x: net.last(net.layer(x)), nn.Sequential(nn.Linear(7, 7), nn.BatchNorm1d(7)), "norm='none'"),
        (lambda net, x: net.last(net.layer(x)), nn.Conv2d(1, 1, 3, padding="same"), "layer pads by padding='same'"),
    ],
    ids=["twice", "rows", "not called", "bilinear", "logits", "dropout", "batch norm", "padding"],
)
def test_what_noise_cannot_reach_is_refused_in_one_sentence(how, layer, says):
    if isinstance(layer, nn.Bilinear):
        how = lambda net, x: net.last(net.layer(x, x))  # noqa: E731
    search = searched(lambda: Called(how, layer))
    with pytest.raises(SupermaskError, match=says):
        search.estimate(*batch((7,)))


def test_what_is_refused_only_in_training_mode_works_in_evaluation_mode():
    make = lambda: nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 4))  # noqa: E731
    search, (images, labels) = searched(make, directions=ALL), batch((7,))
    search.model.eval()
    close(estimated(search, images, labels), exact(search, images, labels))
    assert searched(make, norm="none").model[1].__class__ is nn.Identity


def test_an_error_in_a_noisy_pass_leaves_the_network_as_it_was():
    search, (images, labels) = searched(), batch((7,))
    before = search.model(images)
    calls = []

    def fail(module, inputs):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("third")

    handle = search.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="third"):
        search.estimate(images, labels)
    handle.remove()
    assert torch.equal(search.model(images), before)
    assert all("forward" not in vars(module) for module in search.model.modules())


@pytest.mark.parametrize(
    "options", [{"directions": 0}, {"noise": 0.0}, {"noise": 1.0}, {"feedback_rate": 1.0}, {"feedback_rate": -0.1}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SupermaskError, match=next(iter(options))):
        searched(**options)


@pytest.mark.parametrize("options", [{"bf16": True}, {"compile": True}, {"dropout": 0.5}])
def test_what_would_blur_small_differences_is_refused_by_the_loop(options):
    search = NodePerturbation(models.build("lenet_300_100", input_shape=(1, 8, 8), width=0.1), density=0.5)
    with pytest.raises(SupermaskError, match=f"without {next(iter(options))}"):
        train(search, data.load("synthetic", seed=0), Recipe(iterations=1, batch_size=32, **options), seed=0)
