"""The networks of Frankle, Dziugaite, Roy & Carbin 2020, table 1."""

from typing import NamedTuple

from supermask.baselines.rounds import IMP
from supermask.runs.job import Job
from supermask.runs.protocols.protocol import Protocol, Reported, Setting
from supermask.training import Recipe

LMC = "Frankle et al. 2020"


class _Network(NamedTuple):
    model: str
    text: str


class _Figures(NamedTuple):
    """Accuracies in %: of table 1 the first, of table 2 the others."""

    dense: str
    ticket: str
    random_mask: str
    reinitialised: str
    matching: str

    @property
    def settings(self) -> tuple[Setting, ...]:
        return (
            Setting("dense network", f"{self.dense} %", "table 1"),
            Setting("ticket, reset to its initial weights", f"{self.ticket} %", "table 2"),
            Setting("random mask", f"{self.random_mask} %", "table 2"),
            Setting("reinitialised", f"{self.reinitialised} %", "table 2"),
            Setting("matching at k = 0", self.matching, "table 2"),
        )


class _Row(NamedTuple):
    """A network of the tables: its learning rate and warm-up, and the rounds to its density in %."""

    name: str
    network: _Network
    rate: float
    warm_up: int
    rounds: int
    density: str
    figures: _Figures


_LENET = _Network("lenet_300_100", "LeNet-300-100 on MNIST, 266,200 weights")
_RESNET = _Network("resnet20", "ResNet-20 on CIFAR-10, 270,896 weights; the paper counts 274K parameters")
_VGG = _Network("vgg16", "VGG-16 on CIFAR-10, 14,715,584 weights")
_ROWS = (
    _Row("lmc_lenet_300_100", _LENET, 1.2e-3, 0, 15, "3.5", _Figures("98.3 ± 0.1", "98.2", "96.7", "97.5", "yes")),
    _Row("lmc_resnet20", _RESNET, 0.1, 0, 8, "16.8", _Figures("91.7 ± 0.1", "88.5", "88.6", "88.8", "no")),
    _Row("lmc_resnet20_low", _RESNET, 0.01, 0, 11, "8.6", _Figures("88.8 ± 0.1", "89.0", "85.7", "84.7", "yes")),
    _Row(
        "lmc_resnet20_warm_up",
        _RESNET,
        0.03,
        30_000,
        11,
        "8.6",
        _Figures("89.7 ± 0.3", "89.6", "85.7", "85.6", "yes"),
    ),
    _Row("lmc_vgg16", _VGG, 0.1, 0, 19, "1.5", _Figures("93.7 ± 0.1", "90.9", "89.4", "91.0", "no")),
    _Row("lmc_vgg16_low", _VGG, 0.01, 0, 13, "5.5", _Figures("91.7 ± 0.1", "91.6", "90.1", "90.2", "yes")),
    _Row("lmc_vgg16_warm_up", _VGG, 0.1, 30_000, 19, "1.5", _Figures("93.4 ± 0.1", "93.2", "90.1", "90.7", "yes")),
)


def _reported(name: str, settings: dict[str, str], figures: _Figures) -> Reported:
    return Reported(
        name=name,
        title=f"{LMC}: {settings['network']}",
        settings=(*(Setting(what, value, "table 1") for what, value in settings.items()), *figures.settings),
        why="ImageNet is not among the data sets, and 90 epochs of it take days on one GPU.",
    )


BESIDE = (
    _reported(
        "lmc_resnet50",
        {
            "network": "ResNet-50 on ImageNet, 25.5M parameters",
            "optimizer": "SGD with momentum",
            "learning rate": "0.4, warm-up over 5 epochs, a tenth at 30, 60 and 80",
            "batch": "1,024",
            "length": "90 epochs",
            "density": "30 %, one-shot",
        },
        _Figures("76.1 ± 0.1", "73.7", "73.1", "73.4", "no"),
    ),
    _reported(
        "lmc_inception_v3",
        {
            "network": "Inception-v3 on ImageNet, 27.1M parameters",
            "optimizer": "SGD with momentum",
            "learning rate": "0.03, no warm-up, linear decay to 0.005",
            "batch": "1,024",
            "length": "171 epochs",
            "density": "30 %, one-shot",
        },
        _Figures("78.1 ± 0.1", "75.7", "75.2", "75.5", "no"),
    ),
)
_UNSAID = (
    "The paper was not read itself: the tables are those of an overview of it.",
    "The initial weights: Kaiming normal, as in the authors' code (open_lth).",
    "The layers that are pruned: all weights of two or more dimensions, by one ranking, 20 % of those left in each"
    " round; the densities of table 1 are powers of 0.8 of them.",
    "A validation split: 5,000 training examples are held out, which choose the best step; results give the accuracy of"
    " the last step beside it.",
    "How batch norm is started, and biases: weight 1, bias 0, all trained, not pruned and not counted.",
)
_UNSAID_CONV = (
    "Momentum and weight decay: 0.9 and 1e-4, as in the authors' code.",
    "Augmentation: flips, and crops padded by 4, as in the authors' code.",
)


def _recipe(row: _Row) -> Recipe:
    if row.network.model == "lenet_300_100":
        return Recipe(
            iterations=24_000,
            batch_size=60,
            optimizer="adam",
            learning_rate=row.rate,
            weight_decay=0.0,
            decay="constant",
        )
    return Recipe(
        iterations=63_000,
        batch_size=128,
        learning_rate=row.rate,
        weight_decay=1e-4,
        decay="step",
        drops=(32 / 63, 48 / 63),
        warm_up=row.warm_up,
        augment=True,
    )


def _course(row: _Row) -> str:
    if row.network.model == "lenet_300_100":
        return "1.2e-3, constant"
    rise = f"warm-up over {row.warm_up:,}" if row.warm_up else "no warm-up"
    return f"{row.rate:g}, {rise}, a tenth at 32,000 and 48,000"


def _protocol(row: _Row) -> Protocol:
    recipe, conv = _recipe(row), row.network.model != "lenet_300_100"
    return Protocol(
        name=row.name,
        title=f"{LMC}: {row.network.text.split(',')[0]}, rate {row.rate:g}{' and warm-up' * bool(row.warm_up)}",
        job=Job(
            "imp",
            row.network.model,
            data="cifar10" if conv else "mnist",
            validation=5000,
            recipe=recipe,
            initial="kaiming_normal",
            options=IMP(ranking="global"),
        ),
        rounds=row.rounds,
        trials=3,
        reinitialisations=1,
        settings=(
            Setting("network", row.network.text, "table 1"),
            Setting("optimizer", "SGD with momentum" if conv else "Adam", "table 1"),
            Setting("learning rate", _course(row), "table 1"),
            Setting("batch", f"{recipe.batch_size}", "table 1"),
            Setting("iterations", f"{recipe.iterations:,} in every round", "table 1"),
            Setting("pruned", f"iteratively, to {row.density} %", "table 1"),
            Setting("reset", "to the initial weights, k = 0", "table 2"),
            Setting("trials", "3 initialisations", "table 2"),
        ),
        unsaid=(*_UNSAID, *(_UNSAID_CONV if conv else ("Adam's other numbers: PyTorch's (0.9, 0.999, 1e-8).",))),
        figures=row.figures.settings,
        beside=BESIDE,
    )


LINEAR_MODE = tuple(map(_protocol, _ROWS))
