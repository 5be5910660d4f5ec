"""State dicts: read from a file without running code from it, and put into a network."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from supermask.errors import SupermaskError, first_line

State = Mapping[str, Tensor]
Layers = dict[str, dict[str, Tensor]]
"""Name of a layer to its tensors, by what follows the last dot of their names."""


def read_state(path: Path) -> State:
    """Read the state dict of a .safetensors file or of a file of `torch.save`.

    Raises:
        SupermaskError: the file is missing or damaged, holds something else than named tensors, or one with NaN.

    """
    state = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    if not isinstance(state, Mapping) or not state or not all(isinstance(each, Tensor) for each in state.values()):
        raise SupermaskError(f"{path} holds no state dict; write one with torch.save(network.state_dict(), FILE).")
    for name, tensor in state.items():
        if tensor.is_complex() or tensor.is_quantized or tensor.layout is not torch.strided:
            raise SupermaskError(f"{name} in {path} is {tensor.dtype}, {tensor.layout}; give plain real tensors.")
        if not tensor.isfinite().all():
            raise SupermaskError(f"{name} in {path} holds NaN or infinity; give a network whose training converged.")
    return state


def _safetensors(path: Path) -> State:
    try:
        state: State = safetensors.torch.load(_bytes(path))
    except (SafetensorError, KeyError, ValueError) as error:
        raise SupermaskError(f"{path} is damaged, or no safetensors file ({first_line(error)}).") from None
    return {name: state[name] for name in sorted(state, key=_natural)}  # the file does not keep their order


def _natural(name: str) -> list[Any]:
    """Return a key by which fc2 comes before fc10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _pickled(path: Path) -> Any:
    _bytes(path)
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        if "GLOBAL " not in str(error):  # the name of what it would call
            raise SupermaskError(f"{path} is damaged, or no file of torch.save.") from None
        raise SupermaskError(
            f"{path} holds more than tensors, and reading it could run any code; give a file of"
            " torch.save(network.state_dict(), FILE)."
        ) from None
    except Exception as error:  # what a damaged pickle raises depends on the place of the damage
        raise SupermaskError(f"{path} is damaged, or no file of torch.save ({first_line(error)}).") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SupermaskError(f"Cannot read {path}: {error.strerror}.") from None


def fully_connected(state: State, path: Path) -> nn.Sequential:
    """Return the ReLU network of a state dict's matrices, in their order, in float64.

    Raises:
        SupermaskError: there is something else than weights of two dimensions and biases, or they do not fit together.

    """
    modules: list[nn.Module] = [nn.Flatten()]
    for name, tensors in _layers(state).items():
        linear = _linear(name, tensors, path)
        before = modules[-2] if len(modules) > 1 else None
        if isinstance(before, nn.Linear) and before.out_features != linear.in_features:
            raise SupermaskError(
                f"{name} in {path} takes {linear.in_features} inputs, and {before.out_features} come from the layer"
                " before it; give --model, the network that the file is of."
            )
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _linear(name: str, tensors: Mapping[str, Tensor], path: Path) -> nn.Linear:
    kinds = {"weight": 2, "bias": 1}
    for kind, tensor in tensors.items():
        if tensor.ndim != kinds.get(kind):
            raise SupermaskError(
                f"{_joined(name, kind)} in {path}, of shape {_text(tensor)}, belongs to no fully connected layer;"
                " give --model, the network that the file is of."
            )
    if "weight" not in tensors:
        raise SupermaskError(f"{_joined(name, 'bias')} in {path} comes without a weight; give --model.")
    weight, bias = tensors["weight"], tensors.get("bias")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    _fill(linear, tensors, name, name, path)
    return linear


def load_into(state: State, network: nn.Module, path: Path, model: str) -> nn.Module:
    """Put a state dict into a network of float64: layer by layer by name, or in their order where names differ.

    Args:
        state: its tensors.
        network: changed in place; a layer for which there is no bias loses its own.
        path: of the state dict's file.
        model: the network's name.

    Raises:
        SupermaskError: the two do not fit; the first difference is named.

    """
    found, wanted = _layers(state), _layers(network.state_dict())
    if len(found) != len(wanted):
        raise SupermaskError(
            f"{path} does not fit {model}: it has {len(found)} layers with weights ({_some(found)}), and {model}"
            f" {len(wanted)} ({_some(wanted)})."
        )
    names = list(wanted) if found.keys() == wanted.keys() else list(found)
    for name, place in zip(names, wanted, strict=True):
        _fill(network.get_submodule(place), found[name], name, place, path)
    return network


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str, place: str, path: Path) -> None:
    """Copy the tensors of one layer."""
    own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    for kind in [*tensors, *own]:
        if kind not in own:
            raise SupermaskError(
                f"{_joined(name, kind)} in {path} has no place in {_joined(place, kind)} of the model."
            )
        if kind not in tensors and kind not in ("bias", "num_batches_tracked"):
            raise SupermaskError(f"{path} has no {_joined(name, kind)}; the model's {place} needs one.")
        if kind in tensors and tensors[kind].shape != own[kind].shape:
            raise SupermaskError(
                f"{_joined(name, kind)} in {path} has shape {_text(tensors[kind])}, and the model's"
                f" {_joined(place, kind)} has {_text(own[kind])}."
            )
    for kind, tensor in tensors.items():
        own[kind].data.copy_(tensor)
    if "bias" in own and "bias" not in tensors:
        module.register_parameter("bias", None)


def _layers(state: State) -> Layers:
    layers: Layers = {}
    for full, tensor in state.items():
        name, _, kind = full.rpartition(".")
        layers.setdefault(name, {})[kind] = tensor
    return layers


def _joined(name: str, kind: str) -> str:
    return f"{name}.{kind}" if name else kind


def _some(layers: Layers) -> str:
    names = list(layers)
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def _text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "()"
