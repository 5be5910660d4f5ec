"""The experiments of Frankle & Carbin 2019."""

from dataclasses import replace
from typing import NamedTuple

from supermask.baselines.rounds import IMP
from supermask.runs.job import Job, SearchOptions
from supermask.runs.protocols.protocol import Protocol, Setting
from supermask.training import Recipe

LTH = "Frankle & Carbin 2019"


def _adam(rate: float, iterations: int) -> Recipe:
    """Return how all of their networks without batch norm are trained."""
    return Recipe(
        iterations=iterations,
        batch_size=60,
        optimizer="adam",
        learning_rate=rate,
        weight_decay=0.0,
        decay="constant",
        best="loss",
        evaluate_every=100,
    )


def _lenet() -> Protocol:
    recipe = _adam(1.2e-3, 50_000)
    job = Job("imp", "lenet_300_100", data="mnist", validation=5000, recipe=recipe, initial="xavier_normal")
    return Protocol(
        name="lenet_300_100",
        title=f"{LTH}: LeNet-300-100 on MNIST, iterative pruning with resetting",
        job=job,
        rounds=20,
        trials=5,
        reinitialisations=3,
        settings=(
            Setting("network", "784-300-100-10, ReLU, 266,200 weights", "figure 2"),
            Setting("initial weights", "Gaussian Glorot, std sqrt(2 / (fan_in + fan_out))", "figure 2, section 2"),
            Setting("training, validation, test", "55,000 / 5,000 / 10,000", "appendix G"),
            Setting("optimizer", "Adam, learning rate 1.2e-3, constant", "figure 2"),
            Setting("batch", "60, order drawn anew in each epoch", "figure 2, appendix G"),
            Setting("iterations", "50,000 in every round", "figure 2"),
            Setting("evaluated", "every 100 iterations", "appendix G"),
            Setting("early stopping", "iteration of least validation loss, found afterwards", "section 2"),
            Setting("pruned per round", "20 % of each layer's weights left, 10 % of the output layer's", "figure 2"),
            Setting("ranking", "magnitude at the last iteration, layer by layer", "section 2, appendix B"),
            Setting("reset", "to the initial weights (strategy 1)", "section 2, appendix B"),
            Setting("trials", "5, and 3 reinitialisations of each ticket", "section 2, appendix G"),
        ),
        unsaid=(
            "Adam's other numbers: PyTorch's (0.9, 0.999, 1e-8).",
            "Normalisation of the pixels: mean 0.1307 and standard deviation 0.3081 of the training pixels.",
            "Biases: start at 0, are trained, are not pruned and not counted.",
            "The last batch of an epoch: 40 examples of 55,000 that do not fill one are left out.",
        ),
    )


class _Conv(NamedTuple):
    depth: int
    rate: str
    iterations: int
    conv_rate: float
    weights: str


def _conv(net: _Conv) -> Protocol:
    recipe = _adam(float(net.rate), net.iterations)
    name = f"conv{net.depth}"
    options = IMP(rate=0.2, conv_rate=net.conv_rate, output_rate=0.1)
    job = Job("imp", name, data="cifar10", validation=5000, recipe=recipe, initial="xavier_normal", options=options)
    pruned = f"{net.conv_rate:.0%} of convolutions, 20 % of fully connected layers, 10 % of the output layer"
    return Protocol(
        name=name,
        title=f"{LTH}: Conv-{net.depth} on CIFAR-10, iterative pruning with resetting",
        job=job,
        rounds=20,
        trials=5,
        reinitialisations=3,
        settings=(
            Setting("network", f"Conv-{net.depth}, {net.weights} weights", "figure 2"),
            Setting("initial weights", "Gaussian Glorot", "figure 2, section 3"),
            Setting("training, validation, test", "45,000 / 5,000 / 10,000", "appendix H"),
            Setting("optimizer", f"Adam, learning rate {net.rate}, constant", "figure 2"),
            Setting("batch", "60", "figure 2"),
            Setting("iterations", f"{net.iterations:,} in every round", "figure 2"),
            Setting("evaluated", "every 100 iterations", "appendix H"),
            Setting("early stopping", "iteration of least validation loss, found afterwards", "section 3"),
            Setting("pruned per round", pruned, "figure 2"),
            Setting("reset", "to the initial weights", "section 3"),
        ),
        unsaid=(
            "Adam's other numbers: PyTorch's (0.9, 0.999, 1e-8).",
            "Augmentation and normalisation: none, and by channel mean and standard deviation.",
            "Padding of the convolutions: 1, which gives the weights of Conv-2 and Conv-4 that fit the paper's labels.",
            *(
                ("The paper prints 1.7 million weights for Conv-6, which its layers do not give; ours has 2,261,184.",)
                if net.depth == 6
                else ()
            ),
            "Biases: start at 0, are trained, are not pruned and not counted.",
        ),
    )


def _conv_dropout(plain: Protocol, rate: str, dense: str) -> Protocol:
    recipe = plain.job.recipe
    iterations = 3 * (recipe.iterations or 0)
    changed = {
        "optimizer": Setting("optimizer", f"Adam, learning rate {rate}, constant", "section 3"),
        "iterations": Setting("iterations", f"{iterations:,} in every round", "section 3"),
    }
    return replace(
        plain,
        name=f"{plain.name}_dropout",
        title=f"{plain.title}, dropout",
        job=replace(plain.job, recipe=replace(recipe, iterations=iterations, learning_rate=float(rate), dropout=0.5)),
        settings=(
            *(changed.get(setting.what, setting) for setting in plain.settings),
            Setting("dropout", "0.5", "section 3"),
        ),
        unsaid=(
            *plain.unsaid,
            "Where rate and iterations of dropout stand: the place in the paper was not noted.",
            "Where it drops: the inputs of every fully connected layer. A ticket has the same dropout as the dense"
            " network.",
        ),
        figures=(Setting("dense network with dropout", f"{dense} points above the one without", "section 3"),),
    )


class _Rate(NamedTuple):
    rate: float
    warm_up: int
    names: str
    text: str


def _at(rate: _Rate, until: str) -> str:
    """Return the course of the learning rate as text."""
    rise = f"linear warm-up over {rate.warm_up:,}" if rate.warm_up else "no warm-up"
    return f"{rate.rate:g}, {rise}, a tenth at {until}"


def _resnet20(rate: _Rate) -> Protocol:
    recipe = Recipe(
        iterations=30_000,
        batch_size=128,
        learning_rate=rate.rate,
        weight_decay=1e-4,
        decay="step",
        drops=(2 / 3, 5 / 6),
        warm_up=rate.warm_up,
        augment=True,
        best="loss",
        evaluate_every=100,
    )
    job = Job(
        "imp",
        "resnet20",
        data="cifar10",
        validation=5000,
        recipe=recipe,
        search=SearchOptions(dense=("*.shortcut.*.weight", "fc.weight")),
        initial="xavier_normal",
        options=IMP(ranking="global"),
    )
    return Protocol(
        name=f"resnet20{rate.names}",
        title=f'{LTH}: ResNet-20 (their "Resnet-18") on CIFAR-10, iterative pruning with resetting{rate.text}',
        job=job,
        rounds=20,
        trials=5,
        reinitialisations=3,
        uncounted=3200,
        settings=(
            Setting("network", "ResNet-20 with projections, 270,896 weights", "appendix I"),
            Setting("initial weights", "Gaussian Glorot", "appendix I"),
            Setting("training, validation, test", "45,000 / 5,000 / 10,000", "appendix I"),
            Setting("augmentation", "flips, crops padded by 4", "appendix I"),
            Setting("optimizer", "SGD, momentum 0.9, weight decay 1e-4", "appendix I"),
            Setting("learning rate", _at(rate, "20,000 and 25,000"), "appendix I"),
            Setting("batch", "128", "appendix I"),
            Setting("iterations", "30,000 in every round", "appendix I"),
            Setting("pruned per round", "20 % of the 3x3 convolutions' weights left, one ranking", "appendix I"),
            Setting("never pruned", "2,560 shortcut and 640 output weights, which are counted", "appendix I.3"),
            Setting("reset", "to the initial weights", "section 4"),
        ),
        unsaid=(
            "How batch norm is started: weight 1, bias 0, both trained and not counted.",
            "Whether biases and batch norm decay: they do, as the weights.",
        ),
    )


def _vgg19(rate: _Rate) -> Protocol:
    recipe = Recipe(
        iterations=112_480,
        batch_size=64,
        learning_rate=rate.rate,
        weight_decay=1e-4,
        decay="step",
        drops=(0.5, 0.75),
        warm_up=rate.warm_up,
        augment=True,
        best="loss",
        evaluate_every=100,
        test_at=(30_000, 60_000, 112_000),
    )
    job = Job(
        "imp",
        "vgg19",
        data="cifar10",
        validation=5000,
        recipe=recipe,
        search=SearchOptions(dense=("fc.weight",)),
        initial="xavier_normal",
        options=IMP(ranking="global"),
    )
    return Protocol(
        name=f"vgg19{rate.names}",
        title=f"{LTH}: VGG-19 on CIFAR-10, iterative pruning with resetting{rate.text}",
        job=job,
        rounds=20,
        trials=5,
        reinitialisations=3,
        uncounted=5120,
        settings=(
            Setting("network", "VGG-19 with batch norm and one fully connected layer, 20,024,000 weights", "figure 2"),
            Setting("initial weights", "Gaussian Glorot", "appendix I"),
            Setting("training, validation, test", "45,000 / 5,000 / 10,000", "appendix I"),
            Setting("augmentation", "flips, crops padded by 4", "appendix I"),
            Setting("optimizer", "SGD, momentum 0.9, weight decay 1e-4", "appendix I"),
            Setting("learning rate", _at(rate, "56,240 and 84,360"), "section 4, appendix I"),
            Setting("batch", "64", "figure 2"),
            Setting("iterations", "112,480 in every round, which are 160 epochs", "appendix I"),
            Setting("accuracy read at", "30,000, 60,000 and 112,000 iterations", "figure 7"),
            Setting("pruned per round", "20 % of the convolutions' weights left, one ranking", "section 4, figure 2"),
            Setting("never pruned", "5,120 output weights, which are counted", "figure 2"),
            Setting("reset", "to the initial weights", "section 4"),
        ),
        unsaid=(
            "How batch norm is started: weight 1, bias 0, both trained and not counted.",
            "Whether biases and batch norm decay: they do, as the weights.",
            "The number of trials and of reinitialisations: taken from the smaller networks.",
        ),
    )


_HIGH = _Rate(0.1, 0, "_rate_0.1", " at rate 0.1")
_LOW = _Rate(0.01, 0, "_rate_0.01", " at rate 0.01")
_CONVS = (
    _conv(_Conv(2, "2e-4", 20_000, 0.1, "4,300,992")),
    _conv(_Conv(4, "3e-4", 25_000, 0.1, "2,425,024")),
    _conv(_Conv(6, "3e-4", 30_000, 0.15, "2,261,184")),
)
_DROPOUT = (("3e-4", "2.1"), ("2e-4", "3.0"), ("2e-4", "2.4"))
FRANKLE_CARBIN = (
    _lenet(),
    *_CONVS,
    *(_conv_dropout(plain, *options) for plain, options in zip(_CONVS, _DROPOUT, strict=True)),
    *(_resnet20(rate) for rate in (_Rate(0.03, 20_000, "", " and warm-up"), _HIGH, _LOW)),
    *(_vgg19(rate) for rate in (_Rate(0.1, 10_000, "", " and warm-up"), _HIGH, _LOW)),
)
