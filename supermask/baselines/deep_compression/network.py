"""A whole network into a file and out of it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from supermask.baselines.deep_compression.file import Compressed, decode
from supermask.baselines.deep_compression.layer import CodedLayer
from supermask.baselines.deep_compression.shared import Shared
from supermask.errors import SupermaskError


def compressed(network: Shared, gap_bits: Mapping[str, int]) -> Compressed:
    """Return a network with shared weights as its file holds it.

    Args:
        network: in the state to keep.
        gap_bits: of the differences between kept weights, by parameter name.

    """
    layers = {
        name: CodedLayer.of(network.prunable[name].shape, sharing, gap_bits[name])
        for name, sharing in network.sharing.items()
    }
    rest = {name: tensor.detach() for name, tensor in tensors_of(network.model).items() if name not in layers}
    return Compressed(layers, rest)


def load(path: str | Path, model: nn.Module) -> nn.Module:
    """Return the model as the network of a file, in place: the same numbers, bit for bit, and +0 where it was pruned.

    Args:
        path: of a file that the method deep_compression wrote.
        model: of the architecture that it was made from, on any device; its tensors are overwritten.

    Raises:
        SupermaskError: the file is missing, cut short, changed in any byte or not a compressed network, or the model
            has another architecture; the model is then left as it was.

    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SupermaskError(f"Cannot read the compressed network {path}: {error.strerror}.") from None
    try:
        return restored(decode(data), model)
    except SupermaskError as error:
        raise SupermaskError(f"Cannot load {path}: {error}") from None


@torch.no_grad()
def restored(contents: Compressed, model: nn.Module) -> nn.Module:
    """Return the model with the tensors of a file, in place; `load` says more."""
    own = tensors_of(model)
    stored = {name: (layer.shape, layer.codebook.dtype) for name, layer in contents.layers.items()}
    stored |= {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in contents.rest.items()}
    _refuse_differences({name: (tuple(tensor.shape), tensor.dtype) for name, tensor in own.items()}, stored)
    tensors = {name: layer.weight() for name, layer in contents.layers.items()} | dict(contents.rest)
    for name, tensor in own.items():
        tensor.copy_(tensors[name])
    return model


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and the buffers that are saved, by name; a tied one under its first name."""
    saved = model.state_dict(keep_vars=True)
    return {**dict(model.named_parameters()), **{name: b for name, b in model.named_buffers() if name in saved}}


Kinds = Mapping[str, tuple[tuple[int, ...], torch.dtype]]


def _refuse_differences(own: Kinds, stored: Kinds) -> None:
    if own == stored:
        return
    found = [f"it lacks {name}" for name in stored if name not in own]
    found += [f"the file lacks {name}" for name in own if name not in stored]
    found += [
        f"{name} is {_words(own[name])} in the model and {_words(stored[name])} in the file"
        for name in own
        if name in stored and own[name] != stored[name]
    ]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    raise SupermaskError(
        f"the model is of another architecture than the file: {'; '.join(found[:3])}{more}; build the one that was"
        " compressed."
    )


def _words(kind: tuple[tuple[int, ...], torch.dtype]) -> str:
    return f"{str(kind[1]).removeprefix('torch.')} {kind[0]}"
