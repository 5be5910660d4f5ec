"""Where channels arrive, found out by trying: NaN is put into a channel, and every layer looks whether it reads one."""

from contextlib import ExitStack
from functools import partial

import torch
from torch import nn


def is_stop(module):
    """Whether a module sums over channels, so that NaN in one of them must not pass it."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def features(module, tensor):
    """Return a tensor (features, numbers) of what a layer reads or gives out."""
    return tensor.movedim(-1 if isinstance(module, nn.Linear) else 1, 0).flatten(1)


@torch.no_grad()
def sources(model, x):
    """Return which channels arrive where: by layer, for each input, a set of (layer, channel); "" is the output.

    The network's own input is a source too, named "input", with one channel.
    """
    stops = {name: module for name, module in model.named_modules() if is_stop(module)}
    found = {name: [set() for _ in range(module.weight.shape[1])] for name, module in stops.items()} | {"": [set()]}
    for source in ["input", *stops]:
        for channel in range(1 if source == "input" else len(stops[source].weight)):
            seen, output = _arrivals(model, stops, x, source, channel)
            for name, places in seen.items():
                for place in places:
                    found[name][place].add((source, channel))
            if output:
                found[""][0].add((source, channel))
    return found


def _arrivals(model, stops, x, source, channel):
    seen = {}

    def arrive(name, module, args):
        (value,) = args
        seen[name] = features(module, value.isnan()).any(1).nonzero().flatten().tolist()
        return value.nan_to_num(nan=0.0)

    def leave(module, args, output):
        output = output.clone()
        output.movedim(-1 if isinstance(module, nn.Linear) else 1, 0)[channel] = torch.nan
        return output

    with ExitStack() as hooks:
        for name, module in stops.items():
            hooks.callback(module.register_forward_pre_hook(partial(arrive, name)).remove)
        if source != "input":
            hooks.callback(stops[source].register_forward_hook(leave).remove)
        output = model(torch.full_like(x, torch.nan) if source == "input" else x)
    return seen, bool(output.isnan().any())


def removable_by_probing(model, x):
    """Return the layers whose channels each arrive alone, somewhere, and not at the output."""
    arrived = sources(model, x)
    met = {source for places in arrived.values() for place in places if len(place) > 1 for source, _ in place}
    out = {source for source, _ in arrived[""][0]}
    read = {source for name, places in arrived.items() if name for place in places for source, _ in place}
    return [name for name in arrived if name in read - met - out and len(model.get_submodule(name).weight) > 1]
