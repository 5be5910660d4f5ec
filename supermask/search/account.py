"""What a search warns of where it would otherwise be silently bad: parts that are stored, layers without a gradient."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

STORED, FEW = 0.1, 1000
"""Stored numbers over masked weights above which a ticket is no longer small, and the number that is always small."""
LOOKED_AT = 3
"""The step at which gradients are looked at, once: on a GPU that waits."""
DEAD = 1e-5
"""Mean gradient over that of the layer with the largest, below which a layer's masks do not move. Layers of networks
that train differ by a factor of a thousand or less; behind a layer scale of 1e-6 they differ by a million."""

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


def warn_of_dead(
    scores: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor], account: Account, gains: Sequence[str]
) -> None:
    """Warn of layers whose scores get next to no gradient, though their masks could move.

    Args:
        scores: by parameter name, with the gradients of the last batch.
        masks: by parameter name; a layer that keeps all or nothing has nothing to choose.
        account: of a `RandomNetwork`.
        gains: names of the gains of residual branches that are not trained.

    """
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
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


def _mean_gradient(score: nn.Parameter) -> float:
    return 0.0 if score.grad is None else float(score.grad.abs().mean())
