"""ResNet-20 as Ma et al. 2021 and Liu et al. 2021 train it, who ask when tickets win."""

from supermask.baselines.rounds import IMP
from supermask.runs.job import Job, SearchOptions
from supermask.runs.protocols.protocol import Protocol, Setting
from supermask.training import Recipe


def _ma() -> Protocol:
    recipe = Recipe(
        epochs=160,
        batch_size=64,
        learning_rate=0.01,
        weight_decay=5e-4,
        decay="step",
        drops=(0.5, 0.75),
        augment=True,
    )
    return Protocol(
        name="ma_resnet20",
        title="Ma et al. 2021: ResNet-20 on CIFAR-10, iterative pruning with resetting",
        job=Job(
            "imp",
            "resnet20",
            data="cifar10",
            validation=5000,
            recipe=recipe,
            search=SearchOptions(dense=("conv.weight", "fc.weight")),
            options=IMP(ranking="global"),
        ),
        rounds=14,
        trials=3,
        reinitialisations=1,
        settings=(
            Setting("optimizer", "SGD, momentum 0.9, weight decay 5e-4", "experiments; the authors' code has 1e-4"),
            Setting("learning rate", "a sweep; here 0.01; no warm-up, a tenth at epochs 80 and 120", "experiments"),
            Setting("batch", "64", "experiments"),
            Setting("length", "160 epochs in every round", "experiments"),
            Setting("pruned per round", "20 % of the weights left, 14 rounds", "experiments"),
            Setting("never pruned", "the first convolution and the classifier", "the code of the experiments"),
            Setting("reset", "to the initial weights", "experiments"),
            Setting("trials", "3", "experiments"),
        ),
        unsaid=(
            "The place of each setting: it was not noted when the paper was read.",
            "The initial weights: Kaiming normal.",
            "Augmentation: flips, and crops padded by 4.",
            "A validation split: the authors have none and take the best test accuracy; here 5,000 training examples"
            " are held out, so that an epoch has 703 steps and not 782.",
            "The ranking: the authors' code finds one threshold over the pruned layers and then prunes each layer to"
            " its rounded fraction, a layer that it would keep whole to 99 %; here one ranking chooses the weights.",
            "Biases and batch norm: trained, not pruned and not counted.",
        ),
        figures=(
            Setting("rate 0.005: dense, ticket, reinitialised", "89.6, 87.4, 82.9 %", "experiments"),
            Setting("dense network at rate 0.1", "92.3 to 92.4 %", "experiments"),
        ),
    )


def _liu(rate: float, dense: str, ticket: str) -> Protocol:
    recipe = Recipe(
        epochs=150,
        batch_size=128,
        learning_rate=rate,
        weight_decay=1e-4,
        decay="step",
        drops=(80 / 150, 120 / 150),
        augment=True,
    )
    return Protocol(
        name=f"liu_resnet20_rate_{rate:g}",
        title=f"Liu et al. 2021: ResNet-20 on CIFAR-10 at rate {rate:g}, iterative pruning with resetting",
        job=Job(
            "imp",
            "resnet20",
            data="cifar10",
            validation=5000,
            recipe=recipe,
            search=SearchOptions(dense=("conv.weight",)),
            options=IMP(rate=0.2, output_rate=0.2),
        ),
        rounds=10,
        trials=5,
        reinitialisations=1,
        settings=(
            Setting("optimizer", "SGD, momentum 0.9", "experiments"),
            Setting("learning rate", f"{rate:g}, no warm-up, a tenth at epochs 80 and 120", "experiments"),
            Setting("batch", "128", "experiments"),
            Setting("length", "150 epochs in every round", "experiments"),
            Setting("augmentation", "flips and crops", "experiments"),
            Setting("pruned", "the same fraction of each layer", "experiments"),
            Setting("never pruned", "the first convolution", "experiments"),
            Setting("reset", "to the initial weights", "experiments"),
            Setting("trials", "5", "experiments"),
        ),
        unsaid=(
            "The place of each setting: it was not noted when the paper was read.",
            "The weight decay: 1e-4.",
            "The fraction that a round removes: 20 % of each layer's weights left, so that the densities are powers of"
            " 0.8 and not the paper's.",
            "The padding of the crops: 4. The initial weights: Kaiming normal.",
            "A validation split: 5,000 training examples are held out.",
            "Biases and batch norm: trained, not pruned and not counted.",
        ),
        figures=(
            Setting("dense network", dense, "experiments"),
            Setting("best ticket", ticket, "experiments"),
        ),
    )


SANITY = (
    _ma(),
    _liu(0.01, "89.62 %", "90.04 % at density 38 %"),
    _liu(0.1, "91.7 %", "no better than other weights"),
)
