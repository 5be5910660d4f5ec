"""Edge-popup with the layers of torchao, a package that has them for fully connected networks; it need not be there.

Its `SupermaskLinear` finds the k-th score at every forward pass, evaluation too, and ranks scores with their sign.
"""

from collections.abc import Iterator
from importlib.util import find_spec

import torch
from torch import nn

from supermask import EdgePopup


def installed() -> bool:
    """Return whether there is torchao."""
    return find_spec("torchao") is not None


def replaceable(model: nn.Module) -> bool:
    """Return whether torchao has a layer for each weight of a network."""
    layers = [module for module in model.modules() if [*module.parameters(recurse=False)]]
    return all(type(layer) is nn.Linear for layer in layers)


class TorchaoEdgePopup:
    """A search whose layers are those of torchao.

    Args:
        model: freshly built, of the architecture of `like`, of linear layers alone; changed in place.
        like: the search whose density, frozen weights and first scores it takes.

    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, like: EdgePopup) -> None:
        from torchao.sparsity.supermask import SupermaskLinear  # where it is installed

        self.model = model
        assert like.density is not None
        frozen, scores = like.frozen_weights(), like.scores()
        for name, layer in [(name, part) for name, part in model.named_modules() if type(part) is nn.Linear]:
            size = (layer.in_features, layer.out_features)
            # each score for one weight; scores are trained, weights are not
            masked = SupermaskLinear(1.0 - like.density, 1, False, True, *size, bias=layer.bias is not None)
            masked.weight.copy_(frozen[f"{name}.weight"])
            masked.scores.copy_(scores[f"{name}.weight"])
            if masked.bias is not None:
                masked.bias.zero_().requires_grad_(False)
            model.set_submodule(name, masked)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the scores."""
        return (parameter for parameter in self.model.parameters() if parameter.requires_grad)

    def step(self) -> None:
        """Nothing follows an optimizer step: the next forward pass makes the masks."""
