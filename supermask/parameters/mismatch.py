"""Whether a model has the tensors that a ticket speaks of."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from supermask.parameters.parameters import NORMALIZATIONS, saved_tensors

Shape = tuple[int, ...]


def differences(
    model: nn.Module, shapes: Mapping[str, Shape], constants: Collection[str], bypassed: Collection[str]
) -> list[str]:
    """Return in words how a model differs from what is expected of it; nothing if it fits.

    Args:
        model: plain module.
        shapes: of the parameters and persistent buffers that it should have, by name.
        constants: names of parameters that it should have in any shape.
        bypassed: names of normalisation layers, whose own tensors do not matter.

    """
    there = _shapes_of(model, bypassed)
    expected = {*shapes, *constants}
    return [
        *(f"it lacks {name}" for name in [*shapes, *constants] if name not in there),
        *_not_normalisations(model, bypassed),
        *(f"its {name} is unknown to the ticket" for name in there if name not in expected),
        *(
            f"its {name} has shape {there[name]}, not {shape}"
            for name, shape in shapes.items()
            # a tensor that is missing is named above, and not once more for its shape
            if there.get(name, shape) != shape
        ),
    ]


def unlike(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return in words which tensors a model's own cannot be replaced by, though their shape may be right.

    A number is not a truth value or a complex one, and what is NaN or infinite is so by design or not at all: where
    the model's own tensor is, as in an attention mask.
    """
    own = saved_tensors(model)
    kinds = [(name, tensor, own[name]) for name, tensor in tensors.items() if name in own]
    return [
        *(
            f"its {name} is {tensor.dtype}, and the model's {there.dtype}"
            for name, tensor, there in kinds
            if _kind(tensor) != _kind(there)
        ),
        *(
            f"its {name} holds NaN or infinity"
            for name, tensor, there in kinds
            if not is_finite(tensor) and not there.is_meta and is_finite(there)
        ),
    ]


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "real"
    return "complex" if tensor.is_complex() else "bool" if tensor.dtype is torch.bool else "whole"


def is_finite(tensor: Tensor) -> bool:
    """Return whether no number of a tensor is NaN or infinite."""
    # the narrow floats have no test of their own
    wide = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
    return bool(wide.isfinite().all())


def _shapes_of(model: nn.Module, bypassed: Collection[str]) -> dict[str, Shape]:
    """Return the shapes of all saved tensors but those of bypassed layers."""
    # with the dot, so that bypassing bn1 does not hide bn10
    gone = tuple(f"{name}." for name in bypassed)
    return {name: tuple(tensor.shape) for name, tensor in saved_tensors(model).items() if not name.startswith(gone)}


def _not_normalisations(model: nn.Module, bypassed: Collection[str]) -> list[str]:
    # a layer that was bypassed before is the identity by now
    modules = dict(model.named_modules(remove_duplicate=False))
    return [
        f"its {name} is no normalisation layer to bypass"
        for name in bypassed
        if not isinstance(modules.get(name), (*NORMALIZATIONS, nn.Identity))
    ]
