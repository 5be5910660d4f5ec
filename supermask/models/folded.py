"""Folded networks: blocks that follow each other share their weights, as a recurrent network does over time."""

from itertools import pairwise

from torch import nn

from supermask.errors import SupermaskError


def folded(model: nn.Module) -> nn.Module:
    """Let all equal blocks of a stage use the convolutions of the first of them, in place, and return the model.

    A stage is an `nn.Sequential`, a block a child of it that has layers of its own; blocks are equal if they print
    alike. Each keeps its own batch norm, whose statistics differ from step to step. The shared weights count once, in
    a mask, in a ticket and in what is trained. A block that changes the shape, as the first of most stages does, is not
    equal to those behind it and stays by itself.

    Source: Lopez Garcia-Arias, Hashimoto, Motomura, Yu, "Hidden-fold networks: random recurrent residuals using sparse
    supermasks", BMVC 2021, whose code folds the last two or three stages of a ResNet with bottlenecks; here all are.

    Raises:
        SupermaskError: it has no two equal blocks that follow each other.

    """
    shared = 0
    for stage in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for block, following in pairwise(stage):
            if any(True for _ in block.children()) and repr(block) == repr(following):
                shared += _share(block, following)
    if not shared:
        raise SupermaskError("The model has no equal blocks that follow each other in an nn.Sequential; nothing folds.")
    return model


def _share(block: nn.Module, following: nn.Module) -> int:
    """Let a block use the layers of the one before it; return their number."""
    layers = {name: layer for name, layer in block.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    for name, layer in layers.items():
        following.set_submodule(name, layer)
    return len(layers)
