"""The target network: layers read from a trained `nn.Sequential`, in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from supermask.errors import SupermaskError

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layer:
    """x -> relu(weight x + bias), or without the ReLU.

    Attributes:
        weight: float64 (outputs, inputs).
        bias: float64 (outputs,), or None.
        relu: whether a ReLU follows.

    """

    weight: Matrix
    bias: Matrix | None
    relu: bool

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.weight.shape[0]

    @property
    def offset(self) -> Matrix:
        """The bias, zero where there is none."""
        return np.zeros(self.outputs) if self.bias is None else self.bias


def layers_of(target: nn.Module) -> list[Layer]:
    """Return the layers of a fully connected target.

    Args:
        target: `nn.Sequential` of Linear and ReLU; Flatten, Identity and Dropout (which does nothing after training)
            are passed over.

    Raises:
        SupermaskError: it holds another module, has no Linear, its layers do not fit, or a weight is NaN or infinite.

    """
    if not isinstance(target, nn.Sequential) or type(target).forward is not nn.Sequential.forward:
        raise SupermaskError(f"The target is a {type(target).__name__}; give an nn.Sequential of Linear and ReLU.")
    layers: list[Layer] = []
    for name, module in enumerate(target):  # a module that stands in two places counts twice
        if isinstance(module, nn.Linear):
            bias = None if module.bias is None else _numbers(f"{name}.bias", module.bias)
            layers.append(Layer(_numbers(f"{name}.weight", module.weight), bias, relu=False))
            _check_joint(name, layers)
        elif isinstance(module, nn.ReLU) and layers:
            layers[-1] = Layer(layers[-1].weight, layers[-1].bias, relu=True)
        elif isinstance(module, nn.ReLU):
            raise SupermaskError("The target begins with a ReLU; only a ReLU that follows a Linear can be built.")
        elif not isinstance(module, nn.Flatten | nn.Identity | nn.Dropout):
            raise SupermaskError(
                f"The target's {name} is a {type(module).__name__}; only Linear and ReLU can be built."
            )
    if not layers:
        raise SupermaskError("The target has no Linear layer, so there is nothing to build.")
    return layers


def _check_joint(name: int, layers: list[Layer]) -> None:
    *before, layer = layers
    if before and before[-1].outputs != layer.inputs:
        raise SupermaskError(f"The target's {name} takes {layer.inputs} inputs, and {before[-1].outputs} come to it.")


def _numbers(name: str, tensor: Any) -> Matrix:
    values: Matrix = tensor.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise SupermaskError(f"The target's {name} holds NaN or infinity.")
    return values
