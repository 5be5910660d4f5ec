"""The layers of a model that have parameters, as the probing of channels sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

WEIGHTS: Mapping[type[nn.Module], int] = {nn.Conv2d: -3, nn.Linear: -1}
"""Layers whose channels can be removed, and the dimension of their inputs and outputs that counts channels."""
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d)
"""Normalisation layers that treat each channel, dimension 1, by itself."""


@dataclass(frozen=True)
class Site:
    """A layer with parameters.

    Attributes:
        name: as in `model.named_modules()`.
        module: the layer.
        kind: "weight" (convolution or linear), "norm" (batch norm), or "opaque": what it does is not known.
        outputs: channels or features that it gives out; 1 of an opaque layer, which is seen as a whole.
        dimension: of its inputs and outputs that counts channels.

    """

    name: str
    module: nn.Module
    kind: Literal["weight", "norm", "opaque"]
    outputs: int = 1
    dimension: int = 1

    def __str__(self) -> str:
        return f"{self.name or 'the model itself'} ({type(self.module).__name__})"


def sites_of(model: nn.Module) -> dict[str, Site]:
    """Return the layers with parameters by name, in the model's order.

    Modules whose parameters have one value each, such as a leaky ReLU with a learned slope, treat all channels alike
    and are left out. So are parameters of the outermost module itself, of which no hook can see where they are used.
    """
    found = {name: _site(name, module) for name, module in model.named_modules()}
    return {name: site for name, site in found.items() if site is not None and (name or site.kind != "opaque")}


def sharers(model: nn.Module, site: Site) -> list[str]:
    """Return the names of the other modules that hold a parameter of this one."""
    own = set(map(id, site.module.parameters(recurse=False)))
    return [
        name
        for name, module in model.named_modules()
        if module is not site.module and own & set(map(id, module.parameters(recurse=False)))
    ]


def _site(name: str, module: nn.Module) -> Site | None:
    if type(module) in WEIGHTS and _is_plain(module):
        return Site(name, module, "weight", len(module.get_parameter("weight")), WEIGHTS[type(module)])
    if type(module) in NORMS and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return Site(name, module, "norm", module.num_features)
    own: list[Tensor] = list(module.parameters(recurse=False))
    return Site(name, module, "opaque") if any(parameter.numel() > 1 for parameter in own) else None


def _is_plain(module: nn.Module) -> bool:
    """Return whether a layer has its usual parameters and nothing else, such as a mask or a weight computed anew."""
    return set(module._parameters) == {"weight", "bias"} and module.weight is not None and not module._buffers
