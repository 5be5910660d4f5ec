"""Copies of models of any kind."""

from copy import deepcopy
from typing import TypeVar

from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def copy_of(model: Model) -> Model:
    """Return a deep copy, also of a model that holds what its last forward pass has computed.

    Old-style weight norm, spectral norm and `torch.nn.utils.prune` leave the weight that they made in an attribute,
    with its graph, which `deepcopy` refuses. The copy has its numbers, until its next pass makes it again.
    """
    made = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in made if not tensor.is_leaf})
