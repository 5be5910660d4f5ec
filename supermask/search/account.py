"""What a search warns of where it would otherwise be silently bad: parts that are stored, layers without a gradient."""

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

STORED, FEW = 0.1, 1000
"""Stored numbers over masked weights above which a ticket is no longer small, and the number that is always small."""
LOOKED_AT = 3
"""The step at which gradients are looked at, once: on a GPU that waits."""
DEAD = 1e-5
"""Mean gradient over that of the layer with the largest, below which a layer's masks do not move. The smallest of a
network after three steps on 64 random images, densities 0.5, 0.1 and 0.02: 2e-2 in lenet_300_100, 6e-4 in conv4 (width
0.5), 3e-4 in resnet8, 7e-5 in resnet20 (width 0.5). Behind the layer scale of 1e-6 of a ConvNeXt: 8e-7."""
PASSING = 3.0
"""Kept weights over the root of inputs x outputs, in each layer, from which something passes through all of them. Paths
of random kept weights multiply above 1 and die out below, and ReLU stops about half. lenet_300_100 at density 0.005,
where the last layer has 0.2, gets no gradient to its first layer; its architecture is not the reason."""

Account = Mapping[str, Mapping[str, int]]


def warn_of_stored(account: Account) -> None:
    """Warn where much of a model is neither masked, nor drawn, nor frozen on purpose.

    Args:
        account: of a `RandomNetwork`.

    """
    given, masked = account.get("given", {}), sum(account["masked"].values())
    if sum(given.values()) <= max(FEW, STORED * masked):
        return
    largest = sorted(given, key=lambda name: -given[name])[:3]
    warnings.warn(
        f"{sum(given.values()):,} numbers of {len(given)} parameters stay as the model has them and are stored in the"
        f" ticket, beside {masked:,} masked weights; the largest:"
        f" {', '.join(f'{name} ({given[name]:,})' for name in largest)}. Name those to mask with include=, those to"
        " draw from the seed with dense=, those to train with learned=.",
        stacklevel=4,
    )


def warn_of_outside(numbers: Mapping[str, int]) -> None:
    """Warn where a model has parts that neither a search nor its ticket knows.

    Args:
        numbers: how many numbers each has, by name; 0 where that is not known.

    """
    if not numbers:
        return
    counted = sum(numbers.values())
    warnings.warn(
        f"The model has parts that are neither its parameters nor its saved buffers: {', '.join([*numbers][:3])}"
        f"{f' and {len(numbers) - 3} more' * (len(numbers) > 3)}{f' ({counted:,} numbers)' * bool(counted)}. They are"
        " not masked, and no ticket holds them: hold layers in an nn.ModuleList and parameters in an nn.ParameterList,"
        " and bring such a state to the network of a ticket yourself.",
        stacklevel=4,
    )


def warn_of_dead(
    scores: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor], account: Account, gains: Sequence[str]
) -> None:
    """Warn of layers whose scores get next to no gradient because of how the network is built.

    Where a layer keeps so few weights that nothing may pass, the layers around it get no gradient either. Nothing is
    said of such a network: it is what its density asks for.

    Args:
        scores: by parameter name, with the gradients of the last batch.
        masks: by parameter name; a layer that keeps all or nothing has nothing to choose.
        account: of a `RandomNetwork`.
        gains: names of the gains of residual branches that are not trained.

    """
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        return
    if not all(map(_lets_pass, masks.values())):
        return
    sizes = {name: _mean_gradient(score) for name, score in scores.items() if score.numel()}
    largest = max(sizes.values(), default=0.0)
    dead = [name for name, size in sizes.items() if size <= DEAD * largest and _chooses(masks[name])]
    if not dead or not largest:  # without any gradient the loop is another one than that of a search
        return
    numbers = account["masked"]
    share = sum(numbers[name] for name in dead) / sum(numbers.values())
    more = f" and {len(dead) - 3} more" if len(dead) > 3 else ""
    way_out = (
        f" Gains of residual branches, such as {gains[0]}, may start near 0: gains='one' sets them to 1."
        if gains
        else ""
    )
    warnings.warn(
        f"The scores of {', '.join(dead[:3])}{more} ({share:.0%} of the prunable weights) get next to no gradient, so"
        f" that their masks do not move.{way_out}",
        stacklevel=5,
    )


def _chooses(mask: Tensor) -> bool:
    return 0 < int(mask.sum()) < mask.numel()


def _lets_pass(mask: Tensor) -> bool:
    return not mask.numel() or int(mask.sum()) >= min(mask.numel(), PASSING * math.sqrt(math.prod(mask.shape[:2])))


def _mean_gradient(score: nn.Parameter) -> float:
    return 0.0 if score.grad is None else float(score.grad.abs().mean())
