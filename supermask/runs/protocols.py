"""Published experiments, every setting of them with its source, and what the papers leave unsaid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from supermask.baselines.rounds import Imp
from supermask.errors import SupermaskError
from supermask.masking.ladder import Ladder
from supermask.report.table import table
from supermask.runs.job import Job, SearchOptions
from supermask.training import Recipe

LTH = "Frankle & Carbin 2019"
Shapes = Mapping[str, tuple[int, ...]]


class Setting(NamedTuple):
    """One line of a paper's protocol."""

    what: str
    value: str
    source: str


@dataclass(frozen=True)
class Protocol:
    """An experiment as its paper describes it.

    Attributes:
        name: in `PROTOCOLS`.
        title: one line.
        job: the iterative pruning; its density is a matter of the round.
        rounds: of pruning.
        trials: seeds.
        reinitialisations: random reinitialisations of each ticket.
        uncounted: weights that are never pruned, but counted among the weights that remain.
        settings: every setting with its source.
        unsaid: what the paper does not say, and what is done here.

    """

    name: str
    title: str
    job: Job
    rounds: int
    trials: int
    reinitialisations: int
    settings: tuple[Setting, ...]
    unsaid: tuple[str, ...]
    uncounted: int = 0

    @property
    def ladder(self) -> Ladder:
        """How many weights each round leaves."""
        assert isinstance(self.job.algorithm, Imp)
        return self.job.algorithm.ladder

    def weights_remaining(self, shapes: Shapes, rounds: float) -> float:
        """Return the papers' P_m: the fraction of all weights that is left after so many rounds.

        Args:
            shapes: of the prunable weights, in the order of the model.
            rounds: of pruning.

        """
        kept = sum(self.ladder.kept(shapes, rounds).values())
        every = sum(self.ladder.kept(shapes, 0).values())
        return (kept + self.uncounted) / (every + self.uncounted)

    def describe(self) -> str:
        """Return every setting with its source, and what is unsaid, as text."""
        shown = table(["setting", "value", "source"], [list(setting) for setting in self.settings])
        unsaid = "\n".join(f"- {line}" for line in self.unsaid)
        return f"{self.title}\n\n{shown}\n\nNot in the paper:\n\n{unsaid}"


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
    options = Imp(rate=0.2, conv_rate=net.conv_rate, output_rate=0.1)
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


def _resnet20() -> Protocol:
    recipe = Recipe(
        iterations=30_000,
        batch_size=128,
        learning_rate=0.03,
        weight_decay=1e-4,
        decay="step",
        drops=(2 / 3, 5 / 6),
        warm_up=20_000,
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
        options=Imp(ranking="global"),
    )
    return Protocol(
        name="resnet20",
        title=f'{LTH}: ResNet-20 (their "Resnet-18") on CIFAR-10, iterative pruning with resetting and warm-up',
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
            Setting("learning rate", "0.03, linear warm-up over 20,000, a tenth at 20,000 and 25,000", "appendix I"),
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


_ALL = (
    _lenet(),
    _conv(_Conv(2, "2e-4", 20_000, 0.1, "4,300,992")),
    _conv(_Conv(4, "3e-4", 25_000, 0.1, "2,425,024")),
    _conv(_Conv(6, "3e-4", 30_000, 0.15, "2,261,184")),
    _resnet20(),
)
PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def named_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        SupermaskError: there is none.

    """
    if name not in PROTOCOLS:
        raise SupermaskError(f"Unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
