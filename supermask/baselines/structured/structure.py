"""Which layers' channels can be removed from a network, and why the others' cannot."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supermask.baselines.structured.flow import flows_of
from supermask.baselines.structured.obstacles import left_over, obstacle
from supermask.baselines.structured.probe import first_line, tensors_in
from supermask.baselines.structured.removal import Cut, Removable, apply_cuts, cuts_of, silence
from supermask.baselines.structured.sites import sites_of
from supermask.errors import SupermaskError

TOLERANCE = 1e-3
"""Largest difference between two networks that are one, over the largest output: sums in another order make 1e-6."""


@dataclass(frozen=True)
class Structure:
    """The layers of a network by what can be done to their channels.

    Attributes:
        example: the input that the network was followed with.
        layers: those whose channels can be removed, by name, in the model's order.
        refused: why the channels of the others cannot be: words that follow "because", by name.

    """

    example: Tensor
    layers: Mapping[str, Removable]
    refused: Mapping[str, str]


def structure_of(model: nn.Module, example: Tensor) -> Structure:
    """Return what can be removed from a network, found out by running it.

    The channels of a convolutional or linear layer can be removed if everything that reads them is a layer of known
    kind that reads each of them by itself, if a channel of zeros arrives there as zeros, and if the network still runs,
    with the same result, after some were removed from a copy. They cannot if they are added to others, as at the end
    of a residual block, mixed, e.g. by a layer norm, or reach the output.

    Args:
        model: any module of one input; left as it was.
        example: an input of two examples or more, e.g. float32 (2, C, H, W), on the model's device.

    Raises:
        SupermaskError: the model's forward pass fails, or gives NaN by itself.

    """
    sites = sites_of(model)
    flows = flows_of(model, sites, example)
    weights = {name: site for name, site in sites.items() if site.kind == "weight"}
    refused = {name: obstacle(model, flows, site) for name, site in weights.items()}
    layers = {
        name: Removable(site.outputs, flows.origins[name]) for name, site in weights.items() if refused[name] is None
    }
    refused |= {name: left_over(model, sites, layer.readers, weights[name], example) for name, layer in layers.items()}
    layers = {name: layer for name, layer in layers.items() if refused[name] is None}
    halves = {name: _half(layer) for name, layer in layers.items()}
    if _failure(model, layers, halves, example) is not None:  # each by itself only where that is needed
        refused |= {name: _failure(model, layers, {name: half}, example) for name, half in halves.items()}
    return Structure(
        example,
        {name: layer for name, layer in layers.items() if refused[name] is None},
        {name: reason for name, reason in refused.items() if reason is not None},
    )


def remove_channels(model: nn.Module, kept: Mapping[str, Tensor], structure: Structure) -> nn.Module:
    """Take channels out of a plain model: what is left are smaller plain layers.

    Of each layer named, the rows of the weight and the entries of the bias go, of batch norm behind it the parameters
    and the statistics, and of the layers that read it the inputs, all pixels of the channel where it was flattened.

    Args:
        model: of the architecture that the structure is of; smaller, in place, afterwards, or untouched if refused.
        kept: by name of a layer, bool (channels,), True = kept; at least one in each.
        structure: what `structure_of` says of it.

    Returns:
        The model. In evaluation it gives what it gave with the weights and the biases of these channels, and the
        parameters of batch norm behind them, at zero.

    Raises:
        SupermaskError: a layer is unknown or cannot be made smaller, or nothing of it would be left.

    """
    for name, channels in kept.items():
        _check(name, channels, structure)
    failure = _failure(model, structure.layers, kept, structure.example)
    if failure is not None:
        raise SupermaskError(f"The channels of {', '.join(kept)} cannot be removed, because {failure}.")
    return apply_cuts(model, cuts_of(model, structure.layers, kept))


def narrow(model: nn.Module, masks: Mapping[str, Tensor], example: Tensor) -> nn.Module:
    """Build the small network of a ticket whose masks prune whole channels, as filter pruning leaves it.

    Its `network.safetensors` fits what is returned: `narrow(build(...), ticket.masks, images).load_state_dict(...)`.

    Args:
        model: freshly built, of the ticket's architecture; smaller, in place, afterwards.
        masks: by parameter name, bool, of a ticket.
        example: as of `structure_of`.

    Raises:
        SupermaskError: a channel that the masks prune cannot be removed.

    """
    weights = {name.removesuffix(".weight"): mask for name, mask in masks.items() if name.endswith(".weight")}
    names = {name: mask.flatten(1).any(1) for name, mask in weights.items() if mask.ndim > 1}
    kept = {name: channels for name, channels in names.items() if not bool(channels.all())}
    return remove_channels(model, kept, structure_of(model, example))


def cut_masks(cuts: Mapping[str, Cut], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return masks without what the cuts take away, by parameter name, bool."""
    layers = {name: cuts.get(name.rpartition(".")[0]) for name in masks}
    return {name: mask & cut.of(mask) if (cut := layers[name]) else mask for name, mask in masks.items()}


def _failure(
    model: nn.Module, layers: Mapping[str, Removable], kept: Mapping[str, Tensor], example: Tensor
) -> str | None:
    """Try a removal on a copy; return what went wrong, or None."""
    example = example.to(next(model.parameters()).device)
    try:
        small = apply_cuts(deepcopy(model), cuts_of(model, layers, kept)).eval()
        with torch.no_grad():
            expected, found = silence(deepcopy(model), layers, kept).eval()(example), small(example)
    except Exception as error:  # the forward is anyone's code
        return f"the forward pass does not work with fewer of them ({first_line(error)})"
    equal = all(map(_equal, tensors_in(expected), tensors_in(found)))
    return None if equal else "the network then gives other numbers than with them at zero"


def _equal(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    return bool((expected - found).abs().max() <= TOLERANCE * expected.abs().max())


def _half(layer: Removable) -> Tensor:
    # every other one, so that a removal that takes the wrong ones is found out
    return torch.arange(layer.channels) % 2 == 0


def _check(name: str, channels: Tensor, structure: Structure) -> None:
    if name not in structure.layers:
        reason = structure.refused.get(name, f"there is no such layer; there are {', '.join(structure.layers)}")
        raise SupermaskError(f"The channels of {name} cannot be removed, because {reason}.")
    expected = structure.layers[name].channels
    if channels.dtype is not torch.bool or channels.shape != (expected,):
        raise SupermaskError(
            f"What is kept of {name} is {channels.dtype}, {tuple(channels.shape)}; give a bool tensor of ({expected},)."
        )
    if not bool(channels.any()):
        raise SupermaskError(f"Nothing of {name} would be left; keep at least one of its {expected} channels.")
