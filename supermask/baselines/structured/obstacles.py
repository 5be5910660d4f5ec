"""What speaks against removing a layer's channels, in words that follow "because"."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from supermask.baselines.structured.flow import NONE, SEVERAL, Flows
from supermask.baselines.structured.probe import Probe
from supermask.baselines.structured.sites import Site, sharers


def obstacle(model: nn.Module, flows: Flows, site: Site) -> str | None:
    """Return what speaks against removing channels of a layer with weights, or None."""
    reach = flows.reach[site.name]
    if site.outputs < 2:
        return "it has only one"
    if (own := _unusual(model, flows, site)) is not None:
        return f"it {own}"
    if reach.output:
        return "they reach the network's output"
    if not any(flows.sites[reader].kind == "weight" for reader in reach.features):
        return "they were not seen to reach another convolutional or linear layer"
    obstacles = (_obstacle_at(model, flows, site.name, reader) for reader in reach.features)
    return next((found for found in obstacles if found is not None), None)


def _obstacle_at(model: nn.Module, flows: Flows, layer: str, reader: str) -> str | None:
    site = flows.sites[reader]
    if site.kind == "opaque":
        return f"they reach {site}, of which is not known what it does with each"
    if (unusual := _unusual(model, flows, site)) is not None:
        return f"they reach {site}, which {unusual}"
    if others := flows.met(layer, reader):
        return f"they are combined with those of {', '.join(others)} before {site}"
    if layer in flows.origins and bool((flows.origins[layer][reader] == SEVERAL).any()):
        return f"they are mixed with one another before {site}"
    return None


def _unusual(model: nn.Module, flows: Flows, site: Site) -> str | None:
    """Return why a layer cannot be made smaller, or None."""
    if getattr(site.module, "groups", 1) != 1:
        return "is a grouped convolution"
    if others := sharers(model, site):
        return f"shares a parameter with {others[0] or 'the model itself'}"
    if (calls := flows.calls.get(site.name, 0)) != 1:
        return f"is called {calls} times in a forward pass"
    return None


def left_over(
    model: nn.Module, sites: Mapping[str, Site], readers: Mapping[str, Tensor], layer: Site, example: Tensor
) -> str | None:
    """Return where a layer's channels arrive as other numbers when they are zeros, as behind a sigmoid, or None.

    Args:
        model: left as it was.
        sites: its layers with parameters.
        readers: of the layer: by name, from which of its channels each feature comes.
        layer: a layer with weights.
        example: an input of the model.

    """
    marks: dict[str, Tensor | None] = {layer.name: None}
    marks |= {reader: origin != NONE for reader, origin in readers.items() if sites[reader].kind == "norm"}
    with Probe(model, sites, example, through_norms=True).attached() as probe:
        seen = probe.left_over(marks)
    for reader, origin in readers.items():
        if sites[reader].kind == "weight" and bool(torch.any(seen[reader] & (origin != NONE))):
            return f"zeros of it arrive as other numbers at {sites[reader]}"
    return None
