"""The sparse form of a network: layers whose weights are mostly zero, in compressed rows where that is faster."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from supermask.deploy.csr import SparseLinear, SparsePointwise
from supermask.errors import SupermaskError
from supermask.parameters.copies import copy_of

Crossovers = Mapping[tuple[int, int], float]
"""(weights of a layer, examples of a call) to the density below which compressed rows were faster, 0 where never."""

LINEAR: Crossovers = {
    (1_000, 1): 0.0,
    (1_000, 16): 0.0,
    (1_000, 128): 0.0,
    (30_000, 1): 0.0,
    (30_000, 16): 0.0,
    (30_000, 128): 0.12,
    (235_200, 1): 0.0,
    (235_200, 16): 0.18,
    (235_200, 128): 0.17,
    (1_048_576, 1): 0.05,
    (1_048_576, 16): 0.31,
    (1_048_576, 128): 0.19,
    (4_194_304, 1): 0.12,
    (4_194_304, 16): 0.31,
    (4_194_304, 128): 0.17,
}
"""Of linear layers: experiments/results/sparse_speed.md, column torch, rounded down; a test holds it to them."""
WIDE: Crossovers = {
    (1, 1): 1.0,
    (8_192, 16): 0.24,
    (8_192, 128): 0.1,
    (16_384, 16): 0.24,
    (16_384, 128): 0.07,
    (65_536, 16): 0.03,
    (65_536, 128): 0.0,
}
"""Of linear layers, by inputs in place of weights: no more than this, because the inputs of a call outgrow the caches.

Measured as `LINEAR`, with 4,194,304 weights; fewer inputs set no limit.
"""
POINTWISE: Crossovers = {
    (4_096, 1): 0.04,
    (4_096, 16): 0.15,
    (65_536, 1): 0.18,
    (65_536, 16): 0.14,
}
"""Of convolutions of one pixel: as `LINEAR`, images of 16x16 pixels at 64 channels and 8x8 at 256."""


@dataclass(frozen=True, eq=False)
class SparseForm:
    """A network in sparse form.

    Attributes:
        network: in evaluation mode, for inference on a CPU.
        sparse: density of the layers that are in compressed rows now, by name.
        dense: that of the linear and convolutional layers that stayed as they were.

    """

    network: nn.Module
    sparse: Mapping[str, float]
    dense: Mapping[str, float]


def sparse(model: nn.Module, *, batch: int = 1, copy: bool = True) -> SparseForm:
    """Put the weights of a network into compressed rows (CSR), of each layer for which that is faster on a CPU.

    A layer is, if its density is below the crossover that was measured for a layer of as many weights, or the next
    smaller one, and as many examples; for one of many inputs, also below that for as many inputs. All are in
    experiments/results/sparse_speed.md, one thread of one machine. These are linear layers and convolutions of one
    pixel without stride; larger kernels would have to be unfolded first, which costs more than it saves. Results equal
    those of the network up to the rounding of sums.

    Args:
        model: plain, float32 or float64, on the CPU; left as it was where it is copied.
        batch: examples of a call that it is meant for.
        copy: whether the layers are put into a copy. Without one the model itself is changed, which works for models
            that cannot be copied too.

    Raises:
        SupermaskError: the batch is below 1, or the model is not on the CPU.

    """
    if batch < 1:
        raise SupermaskError(f"batch={batch} is below 1; give the number of examples of a call.")
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        raise SupermaskError("The network is not on the CPU, for which compressed rows are meant; move it there.")
    network = (copy_of(model) if copy else model).eval()
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    faster = {name: made for name, layer in layers.items() if (made := _faster(layer, batch)) is not None}
    densities = {name: _density(layer) for name, layer in layers.items()}
    network = _replaced(network, {layers[name]: made for name, made in faster.items()})
    dense = {name: density for name, density in densities.items() if name not in faster}
    return SparseForm(network, {name: densities[name] for name in faster}, dense)


def crossover(measured: Crossovers, weights: int, batch: int) -> float:
    """Return the density below which compressed rows are faster, of the next smaller layer and batch that was measured.

    Args:
        measured: `LINEAR`, `WIDE` or `POINTWISE`.
        weights: of the layer, zeros too; of `WIDE` its inputs.
        batch: examples of a call.

    """
    known = [key for key in measured if key[0] <= weights and key[1] <= batch]
    return measured[max(known)] if known else 0.0


def _faster(layer: nn.Linear | nn.Conv2d, batch: int) -> nn.Module | None:
    """Return the layer in compressed rows, if that is faster."""
    if set(layer._parameters) != {"weight", "bias"} or layer.weight.dtype not in (torch.float32, torch.float64):
        return None  # e.g. one that is parametrized
    if type(layer) is nn.Linear:
        return SparseLinear(layer) if _density(layer) < _of_linear(layer, batch) else None
    if type(layer) is nn.Conv2d and _is_pointwise(layer):
        return SparsePointwise(layer) if _density(layer) < crossover(POINTWISE, layer.weight.numel(), batch) else None
    return None


def _of_linear(layer: nn.Linear, batch: int) -> float:
    """Return the density below which a linear layer is faster."""
    return min(crossover(LINEAR, layer.weight.numel(), batch), crossover(WIDE, layer.in_features, batch))


def _is_pointwise(layer: nn.Conv2d) -> bool:
    places = (*layer.kernel_size, *layer.stride)
    return set(places) == {1} and layer.padding in ((0, 0), "same", "valid") and layer.groups == 1


def _density(layer: nn.Module) -> float:
    weight = torch.as_tensor(layer.weight)
    return float((weight != 0).sum()) / max(1, weight.numel())


def _replaced(network: nn.Module, faster: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put layers in the places of others, in all that they have."""
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is not None and child in faster:
                module._modules[name] = faster[child]
    return faster.get(network, network)
