"""Units without a live path from the input or to the output are removed, exactly."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supermask.baselines.structured import Cost, cost_of
from supermask.baselines.structured.probe import tensors_in
from supermask.baselines.structured.removal import Cut, apply_cuts
from supermask.deploy.following import ledger_of
from supermask.deploy.liveness import live_units
from supermask.deploy.units import Layer, Ledger

TOLERANCE = 1e-4
"""Largest difference of two networks that are one, over the largest output: sums in another order make 1e-6."""


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A network without its dead units.

    Attributes:
        network: a copy of the network, smaller, in evaluation mode.
        units: by name of a layer: outputs that are left, and that there were.
        before: what the network cost.
        after: what it costs now.

    """

    network: nn.Module
    units: Mapping[str, tuple[int, int]]
    before: Cost
    after: Cost

    @property
    def removed(self) -> int:
        """Number of units that were removed."""
        return sum(count - left for left, count in self.units.values())


def narrow(model: nn.Module, example: Tensor) -> Narrowed:
    """Remove the units, neurons or channels, that have no live path from the input or none to the output.

    A unit goes if all that reads it reads it through weights of 0, or is itself removed, or if it is the same constant
    number for every input and all that reads it can have that number in its bias: a linear layer always, a convolution
    unless it pads zeros around a number that is not 0. With it go its weights, bias and batch norm, its statistics and
    the weights that read it. Units that are added to one another go together or stay. What an operation does with each
    unit must be known (`rules`), and a layer's weight must be a parameter that nothing else reads; else its units stay:
    those of recurrent layers, attention and shared weights, for instance. Of each layer at least one unit stays.

    What it computes in evaluation mode is equal up to the rounding of sums: the terms that they lose are 0 or constant,
    but a library may add the others in another order. Where it does not, and no constant goes into a bias, results are
    equal bit for bit. Numbers are presumed to be finite.

    Args:
        model: any module of one input with plain parameters; left as it was.
        example: an input, of two examples or more, e.g. float32 (2, C, H, W), on the model's device. What is found
            holds for inputs of its shape, with any number of examples.

    Raises:
        SupermaskError: the model is parametrized or cannot be written as one graph by `torch.export`.

    """
    network = deepcopy(model).eval()
    ledger = ledger_of(network, example)
    live = live_units(ledger, _stuck(network, ledger, example))
    units = {layer.name: (int(live[ledger.roots(layer.rows)].sum()), len(layer.rows)) for layer in ledger.layers}
    before, narrowed = cost_of(network, example), _without(network, ledger, live)
    return Narrowed(narrowed, units, before, cost_of(narrowed, example))


def _stuck(network: nn.Module, ledger: Ledger, example: Tensor) -> Tensor | None:
    """Return units without which the network does not run, or gives something else, because it counts them itself."""
    if _runs(network, ledger, None, example):
        return None
    everything = torch.cat([layer.rows for layer in ledger.layers])
    stuck: list[Tensor] = []
    for layer in ledger.layers:
        own = torch.isin(ledger.roots(everything), ledger.roots(layer.rows))
        if not _runs(network, ledger, everything[~own], example):
            stuck.append(layer.rows)
    spared = torch.cat(stuck)
    return spared if _runs(network, ledger, spared, example) else everything


def _runs(network: nn.Module, ledger: Ledger, spared: Tensor | None, example: Tensor) -> bool:
    try:
        narrowed = _without(deepcopy(network), ledger, live_units(ledger, spared))
        with torch.no_grad():
            expected, found = tensors_in(network(example)), tensors_in(narrowed(example))
    except Exception:  # the forward is anyone's code
        return False
    return all(map(_equal, expected, found))


def _equal(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    return not expected.numel() or bool((expected - found).abs().max() <= TOLERANCE * expected.abs().max())


def _without(network: nn.Module, ledger: Ledger, live: Tensor) -> nn.Module:
    """Take all units that are not live out of a network, in place, and return it."""
    cuts = {name: Cut(live[ledger.roots(units)], live[ledger.roots(units)]) for name, units in ledger.followers.items()}
    for layer in ledger.layers:
        columns = torch.ones(layer.connected.shape[1], dtype=torch.bool)
        if layer.columns is not None:
            columns = live[ledger.roots(layer.columns)]
        _fold(network.get_submodule(layer.name), layer, ~columns)
        cuts[layer.name] = Cut(live[ledger.roots(layer.rows)], columns)
    return apply_cuts(network, cuts)


@torch.no_grad()
def _fold(module: nn.Module, layer: Layer, gone: Tensor) -> None:
    """Add to a layer's bias what its constant inputs that go have put there."""
    gone = gone & (layer.constants != 0) & ~layer.constants.isnan() & layer.connected.any(0)
    if not bool(gone.any()):
        return
    weight = module.get_parameter("weight")
    constants = layer.constants[gone].to(weight.device)
    share = (
        weight[:, gone.to(weight.device)].double().flatten(2).sum(2) if weight.ndim > 2 else weight[:, gone].double()
    )
    added = share @ constants
    bias = module._parameters.get("bias")
    if bias is None:
        module.bias = nn.Parameter(added.to(weight.dtype), requires_grad=weight.requires_grad)
    else:
        bias.copy_(bias.double() + added)
