"""Whether the modules of a chain fit together, as far as that can be said without an input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from supermask.errors import SupermaskError
from theory.chain.calls import FlattenTo
from theory.chain.trace import Step

IMAGES, VECTORS = "images", "vectors"


@dataclass(frozen=True)
class Comes:
    """What comes to one place of a chain.

    Attributes:
        kind: "images" (batch, channels, height, width) or "vectors" (batch, units); None where either may come.
        count: channels or units; None where the size of the input decides.

    """

    kind: str | None = None
    count: int | None = None


def through(step: Step, module: nn.Module, comes: Comes) -> Comes:
    """Return what leaves a module of the chain.

    Raises:
        SupermaskError: what comes to it is not what it takes.

    """
    width = step.module.width if isinstance(step.module, FlattenTo) else None
    takes, gives = JOINTS.get(type(module), _images)(module, comes, width)
    if takes.kind and comes.kind and takes.kind != comes.kind:
        hint = "put an nn.Flatten before it" if takes.kind == VECTORS else "only convolutions and pooling give images"
        raise SupermaskError(f"The target's {step.name} takes {takes.kind}, and {comes.kind} come to it; {hint}.")
    if takes.count and comes.count and takes.count != comes.count:
        raise SupermaskError(f"The target's {step.name} takes {takes.count} inputs, and {comes.count} come to it.")
    return gives


Joint = Callable[[Any, Comes, int | None], tuple[Comes, Comes]]
"""(module, what comes, width that a view names) -> what it takes, what it gives."""


def _linear(module: nn.Linear, comes: Comes, width: int | None) -> tuple[Comes, Comes]:
    return Comes(VECTORS, module.in_features), Comes(VECTORS, module.out_features)


def _conv(module: nn.Conv2d, comes: Comes, width: int | None) -> tuple[Comes, Comes]:
    return Comes(IMAGES, module.in_channels), Comes(IMAGES, module.out_channels)


def _relu(module: nn.ReLU, comes: Comes, width: int | None) -> tuple[Comes, Comes]:
    return comes, comes


def _flatten(module: nn.Flatten, comes: Comes, width: int | None) -> tuple[Comes, Comes]:
    units = comes.count if comes.kind == VECTORS else None  # how many pixels an image has is not known here
    takes = Comes(comes.kind, width if units else None)
    return takes, Comes(VECTORS, units or width)


def _images(module: nn.Module, comes: Comes, width: int | None) -> tuple[Comes, Comes]:
    return Comes(IMAGES), Comes(IMAGES, comes.count)


JOINTS: dict[type, Joint] = {nn.Linear: _linear, nn.Conv2d: _conv, nn.ReLU: _relu, nn.Flatten: _flatten}
"""What fits to what; the rest are pooling and padding, which take and give images."""


def check_last_width(steps: Sequence[Step]) -> None:
    """Refuse a view(-1, width) that no Linear follows: where an image has more pixels, it cuts it into several.

    Raises:
        SupermaskError: there is one.

    """
    for step in reversed(steps):
        if isinstance(step.module, nn.Linear):
            return
        if isinstance(step.module, FlattenTo) and step.module.width:
            raise SupermaskError(
                f"The target's {step.name} is followed by no Linear that takes its {step.module.width} outputs; "
                "flatten with x.flatten(1)."
            )
