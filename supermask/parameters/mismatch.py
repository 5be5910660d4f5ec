"""Whether a model has the tensors that a ticket speaks of."""

from collections.abc import Collection, Mapping

from torch import nn

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
