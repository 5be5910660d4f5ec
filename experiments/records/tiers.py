"""The tiers of the board, and what others reached with which convention of counting."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

TIERS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "mnist": (800, 1_500, 3_000, 10_000),
        "fashion_mnist": (800, 1_500, 3_000, 10_000),
        # the sizes of tiny-cifar's files, and of LilNetX's ResNet-20-4
        "cifar10": (5_200, 9_900, 12_200, 39_000, 66_000),
    }
)
"""By data set: bytes that each file of a record has at most, everything in it but the program."""


@dataclass(frozen=True)
class Rival:
    """What somebody else reached.

    Attributes:
        name: of the method or the project.
        bytes: as they count them.
        error: on the test set, in per cent; the best or the only run, where nothing else is said.
        counts: what is counted: the whole file, the bits of the weights alone, numbers of parameters, a program.
        source: where it was read: in their code or documents, in the paper, or at third hand.

    """

    name: str
    bytes: int
    error: float
    counts: str
    source: str


_CODE, _PAPER, _DOCS, _THIRD = "their code", "the paper", "their documents", "third hand"
_OURS = "experiments/results/smallest_ticket.md"

RIVALS: Mapping[str, tuple[Rival, ...]] = MappingProxyType(
    {
        "mnist": (
            Rival("a codegolf program", 101, 43.3, "program", _THIRD),
            Rival("ATtiny85", 512, 5.0, "program", _THIRD),
            Rival("TBNN", 720, 8.5, "weight bits", _THIRD),
            Rival("BitNetMCU, 16 x 16 input", 1_100, 5.78, "weight bits", _CODE),
            Rival("MIRACLE, LeNet-5", 1_520, 0.96, "index bits", "third hand and their code"),
            Rival("Bayesian Compression, LeNet-5", 2_300, 1.0, "weight bits", _THIRD),
            Rival("hexhowells, 575 float32", 2_300, 2.0, "parameters", _DOCS),
            Rival("a QR code", 2_579, 8.0, "compressed file", _DOCS),
            Rival("MIRACLE, LeNet-5", 3_030, 0.69, "index bits", "third hand and their code"),
            Rival("BitNetMCU", 3_200, 1.08, "weight bits", _CODE),
            Rival("edge-popup here, 1 run", 3_520, 0.92, "whole file", _OURS),
            Rival("edge-popup here, 1 run", 3_637, 0.82, "whole file", _OURS),
            Rival("Weightless", 4_000, 1.0, "weight bits", _PAPER),
            Rival("BitNetMCU", 5_400, 0.94, "weight bits", _CODE),
            Rival("edge-popup here, mean of 2 runs", 5_539, 0.65, "whole file", _OURS),
            Rival("BitNetMCU", 7_300, 0.72, "weight bits", _CODE),
            Rival("BitNetMCU", 9_300, 0.56, "weight bits", _CODE),
            Rival("BitNetMCU", 11_000, 0.46, "weight bits", _CODE),
            Rival("BitNetMCU", 13_040, 0.42, "weight bits", _CODE),
            Rival("ruslangrimov, 4,862 float32", 19_448, 0.93, "parameters", _DOCS),
            Rival("Deep Compression, LeNet-5", 44_000, 0.74, "weight bits", _PAPER),
        ),
        "fashion_mnist": (),
        "cifar10": (
            Rival("tiny-cifar", 931, 56.21, "whole file", _CODE),
            Rival("tiny-cifar", 1_700, 49.22, "whole file", _CODE),
            Rival("tiny-cifar", 3_900, 38.63, "whole file", _CODE),
            Rival("tiny-cifar", 5_200, 24.35, "whole file", _CODE),
            Rival("Müksch", 5_390, 39.6, "weight bits", _THIRD),
            Rival("tiny-cifar", 9_900, 22.48, "whole file", _CODE),
            Rival("µNAS, int8", 11_400, 13.51, "parameters", _THIRD),
            Rival("tiny-cifar", 12_200, 18.32, "whole file", _CODE),
            Rival("tiny-cifar", 38_900, 14.93, "whole file", _CODE),
            Rival("LilNetX, ResNet-20-4", 66_000, 8.5, "weight bits", _THIRD),
            Rival("tiny-cifar", 69_300, 14.14, "whole file", _CODE),
            Rival("LilNetX, VGG-16", 76_000, 10.0, "weight bits", _THIRD),
            Rival("MLPerf Tiny ResNet-8, int8", 96_000, 13.5, "parameters", _DOCS),
            Rival("MIRACLE, VGG-16", 168_000, 10.0, "index bits", _THIRD),
        ),
    }
)
"""By data set, the fewest bytes first. Most are single runs, and their conventions differ: none is a record here."""
