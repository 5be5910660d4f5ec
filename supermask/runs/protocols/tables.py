"""Tables of Li et al. 2017, Su et al. 2020, Renda et al. 2020 and Frankle et al. 2021, and what is text alone.

Liu et al. 2019 and Gale et al. 2019 are text alone: their networks or their rules are not those that can be run here.
"""

from supermask.baselines.at_initialisation import SNIP, RandomSmartRatio
from supermask.baselines.channel_pruning.filter_pruning import FilterPruning
from supermask.baselines.rounds import LearningRateRewind
from supermask.runs.job import Job, SearchOptions
from supermask.runs.protocols.protocol import Protocol, Reported, Setting
from supermask.training import Recipe

_LI, _GALE, _SU = "Li et al. 2017", "Gale et al. 2019", "Su et al. 2020"
_CIFAR = Recipe(
    epochs=160,
    batch_size=128,
    learning_rate=0.1,
    weight_decay=1e-4,
    decay="step",
    drops=(0.5, 0.75),
    augment=True,
)
"""How CIFAR-10 is trained where a paper was not read for it: as in the authors' code of Frankle & Carbin (open_lth)."""
_SPLIT = "A validation split: 5,000 training examples are held out."
_DENSE = (
    "The training of the dense network: 160 epochs, a tenth of the rate at 80 and 120, batch 128, weight decay 1e-4."
)
_BATCH_NORM = "Biases and batch norm: trained, not pruned and not counted."

RETHINKING = Reported(
    name="rethinking_resnet",
    title="Liu et al. 2019 (Rethinking the value of network pruning): Li's structures from scratch, CIFAR-10",
    settings=(
        Setting("ResNet-56", "93.14 ± 0.12 %", "experiments, the files of third parties"),
        Setting("ResNet-56-A, Scratch-E / Scratch-B", "92.96 ± 0.26 / 93.09 ± 0.14 %", "experiments, the same"),
        Setting("ResNet-56-B, Scratch-E / Scratch-B", "92.54 ± 0.19 / 93.05 ± 0.18 %", "experiments, the same"),
        Setting("ResNet-110", "93.14 ± 0.24 %", "experiments, the same"),
        Setting("ResNet-110-A, Scratch-E / Scratch-B", "93.25 ± 0.29 / 93.22 ± 0.22 %", "experiments, the same"),
        Setting("ResNet-110-B, Scratch-E / Scratch-B", "92.89 ± 0.43 / 93.60 ± 0.25 %", "experiments, the same"),
    ),
    why="scratch_e and scratch_b prune weights, and these structures lose filters stage by stage.",
)
GALE = (
    Reported(
        name="gale_resnet50",
        title=f"{_GALE}: ResNet-50 on ImageNet, top-1 accuracy by sparsity",
        settings=(
            Setting("dense", "76.59 to 76.80 %", "results of the authors' code, all experiments"),
            Setting("sparsity", "50 / 70 / 80 / 90 / 95 / 98 %", "experiments"),
            Setting("magnitude", "76.53 / 76.38 / 75.58 / 73.91 / 70.59 / 57.9 %", "experiments"),
            Setting("magnitude, trained longer", "- / - / 76.52 / 75.16 / 72.71 / - %", "experiments"),
            Setting("variational dropout", "76.55 / - / 75.28 / 73.84 / 71.91 / 67.36 %", "experiments"),
            Setting("random", "74.59 / 72.2 / 70.21 / 65 / 58.04 / 43.99 %", "experiments"),
            Setting("lottery ticket", "74.64 / 72.94 / 71.21 / 67.38 / 62.86 / 51.28 %", "experiments"),
        ),
        why="ImageNet is not among the data sets.",
    ),
    Reported(
        name="gale_transformer",
        title=f"{_GALE}: a Transformer for English to German, BLEU by sparsity",
        settings=(
            Setting("dense", "27.1 to 27.5", "results of the authors' code, all experiments"),
            Setting("sparsity", "50 / 60 / 70 / 80 / 90 / 95 / 98 %", "experiments"),
            Setting("magnitude", "26.33 / 25.94 / 25.21 / 24.65 / 23.26 / 20.75 / 16.37", "experiments"),
            Setting("variational dropout", "26.26 / 25.37 / 25.08 / 24.33 / 21.43 / 19.13 / 14.45", "experiments"),
            Setting("L0", "26.72 / 26.16 / 25.29 / 24.15 / 20.05 / 19.78 / 16.83", "experiments"),
            Setting("random", "24.56 / 24.45 / 24.01 / 23.15 / 20.67 / 17.42 / 10.94", "experiments"),
        ),
        why="the data set of translations is not among those here.",
    ),
)


def _li(name: str, title: str, job: Job, settings: tuple[Setting, ...], figures: tuple[Setting, ...]) -> Protocol:
    return Protocol(
        name=name,
        title=f"{_LI}: {title} on CIFAR-10, filters removed in one shot and retrained",
        job=job,
        rounds=0,
        levels=(job.search.density,),
        trials=3,
        reinitialisations=0,
        settings=(
            *settings,
            Setting("ranking", "L1 norm of the filters, in each layer by itself", "section 3.1"),
            Setting("retraining", "40 epochs at 0.001", "section 4"),
        ),
        unsaid=(
            "The dense network is trained for 160 epochs, four times the 40 of retraining: rate 0.1, a tenth at 80"
            " and 120, batch 128, weight decay 1e-4.",
            "The number of trials: 3; the paper gives the best test error of the retraining.",
            _SPLIT,
        ),
        figures=figures,
        beside=(RETHINKING,),
    )


def _li_vgg16() -> Protocol:
    whole = tuple(f"features.{place}.weight" for place in (3, 7, 10, 14, 17, 20))
    search = SearchOptions(density=0.5, dense=whole)
    job = Job(FilterPruning.name, "vgg16", data="cifar10", validation=5000, recipe=_CIFAR, search=search)
    return _li(
        "li_vgg16_a",
        "VGG-16-A",
        job,
        (
            Setting("network", "VGG-16 with batch norm", "experiments"),
            Setting("filters removed", "half of layers 1 and 8 to 13; here layer 1 stays whole", "experiments"),
        ),
        (
            Setting("VGG-16: test error", "6.75 %; from scratch, pruned: 6.88 %", "table 1"),
            Setting("VGG-16-A: test error", "6.60 %", "table 1"),
            Setting("VGG-16-A: multiply-adds", "3.13e8 to 2.06e8 (34.2 % less)", "table 1"),
            Setting("VGG-16-A: parameters", "1.5e7 to 5.4e6 (64.0 % less)", "table 1"),
        ),
    )


def _li_resnet56() -> Protocol:
    search = SearchOptions(density=0.9)
    job = Job(FilterPruning.name, "resnet56", data="cifar10", validation=5000, recipe=_CIFAR, search=search)
    return _li(
        "li_resnet56_a",
        "ResNet-56-A",
        job,
        (
            Setting("network", "ResNet-56, with identity shortcuts padded by zeros; here projections", "experiments"),
            Setting("filters removed", "10 % of the first convolution of each block", "experiments"),
            Setting("layers that stay whole", "16, 20, 38 and 54; here they lose 10 % too", "experiments"),
        ),
        (
            Setting("ResNet-56: test error", "6.96 %", "table 1"),
            Setting("ResNet-56-A: test error", "6.90 %; 10.4 % less multiply-adds, 9.4 % less parameters", "table 1"),
            Setting(
                "ResNet-56-B (60 / 30 / 10 % by stage)",
                "6.94 %; 27.6 % less multiply-adds, 13.7 % less parameters; from scratch 8.69 %",
                "table 1",
            ),
            Setting("ResNet-110: test error", "6.47 %; A 6.45, B 6.70 %, B from scratch 7.06 %", "table 1"),
        ),
    )


def _su() -> Protocol:
    recipe = Recipe(
        epochs=160,
        batch_size=64,
        learning_rate=0.1,
        weight_decay=1e-4,
        decay="step",
        drops=(0.5, 0.75),
        augment=True,
    )
    return Protocol(
        name="su_resnet32",
        title=f"{_SU}: ResNet-32 on CIFAR-10, random masks by smart ratios",
        job=Job(RandomSmartRatio.name, "resnet32", data="cifar10", validation=5000, recipe=recipe),
        rounds=0,
        levels=(0.1, 0.05, 0.02),
        trials=3,
        reinitialisations=0,
        settings=(
            Setting("length", "160 epochs", "the code of the experiments"),
            Setting("optimizer", "SGD, momentum 0.9, weight decay 1e-4", "the code of the experiments"),
            Setting("learning rate", "0.1, a tenth at epochs 80 and 120", "the code of the experiments"),
            Setting("batch", "64", "the code of the experiments"),
            Setting("densities of the layers", "(L - l + 1)^2 + (L - l + 1), the last 30 %", "the same experiments"),
        ),
        unsaid=(
            "The densities: 10, 5 and 2 %, which were not noted when the code was read.",
            "Its table was not read, so that no figure stands here. Its other checks are those of"
            " `supermask.runs.sanity`.",
            _SPLIT,
            _BATCH_NORM,
        ),
    )


def _renda() -> Protocol:
    return Protocol(
        name="renda_resnet20",
        title="Renda et al. 2020: ResNet-20 on CIFAR-10, iterative pruning with learning-rate rewinding",
        job=Job(
            LearningRateRewind.name,
            "resnet20",
            data="cifar10",
            validation=5000,
            recipe=_CIFAR,
            options=LearningRateRewind(rate=0.2, rewind_to=0),
        ),
        rounds=19,
        trials=3,
        reinitialisations=0,
        settings=(
            Setting("pruned per round", "20 % of the weights left, one ranking", "section 3"),
            Setting("retrained", "with the whole schedule, from the last weights", "section 3"),
            Setting("compared with", "weight rewinding (imp_rewind), fine_tune", "section 3"),
            Setting("axis of cost", "optimizer steps until the network is there: the column cost", "section 3"),
        ),
        unsaid=(
            "The tables were not read; the network is that of the one figure that was.",
            _DENSE,
            _SPLIT,
            _BATCH_NORM,
        ),
        figures=(
            Setting(
                "ResNet-20 at 1.4 %: learning-rate rewinding",
                "80.21 %; lottery tickets with warm-up 74.52 %",
                "Sreenivasan et al. 2022, experiments",
            ),
        ),
    )


def _missing_the_mark() -> Protocol:
    return Protocol(
        name="frankle2021_resnet20",
        title="Frankle et al. 2021: ResNet-20 on CIFAR-10, pruned at initialisation",
        job=Job(SNIP.name, "resnet20", data="cifar10", validation=5000, recipe=_CIFAR),
        rounds=0,
        levels=tuple(0.8**power for power in range(1, 19)),
        trials=3,
        reinitialisations=0,
        settings=(
            Setting("sparsities", "20, 36, 48.8, ..., 98.2 %: 18 powers of 0.8", "the README of the experiments"),
            Setting(
                "compared", "snip, grasp, synflow, magnitude_init, random_uniform", "the README of the experiments"
            ),
            Setting("later", "pruned at another step: --snip.prune_step", "the README of the experiments"),
            Setting(
                "checks", "shuffled in layers, reinitialised, inverted: --controls", "the README of the experiments"
            ),
        ),
        unsaid=(
            _DENSE,
            "The table of accuracies was not read, so that no figure stands here.",
            "The initial weights: Kaiming normal; the README names a standard normal.",
            _SPLIT,
            _BATCH_NORM,
        ),
    )


TABLES = (_li_vgg16(), _li_resnet56(), _su(), _renda(), _missing_the_mark())
TEXTS = (RETHINKING, *GALE)
