"""From which channel of which layer each feature of every layer comes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supermask.baselines.structured.probe import Probe
from supermask.baselines.structured.sites import Site
from supermask.errors import SupermaskError

NONE, SEVERAL = -1, -2
"""Origins of a feature to which no channel of a layer comes, and of one to which more than one does."""
INPUT = "the input"


@dataclass(frozen=True)
class Reach:
    """Where the channels of one source arrive, taken together.

    Attributes:
        features: by name of a layer that they reach directly, which of its features, bool (features,).
        output: whether they reach an output of the network.

    """

    features: Mapping[str, Tensor]
    output: bool = False


@dataclass(frozen=True)
class Flows:
    """Where everything goes.

    Attributes:
        sites: the layers with parameters.
        calls: times that each of them is called in one forward pass.
        reach: of all that gives out numbers: the input, layers with weights, opaque modules, and normalisation layers,
            unless they were looked through.
        origins: of each layer with weights whose channels meet no others and reach no output: by name of a layer that
            reads them, the one channel that a feature comes from, or `NONE` or `SEVERAL`; int64 (features,).

    """

    sites: Mapping[str, Site]
    calls: Mapping[str, int]
    reach: Mapping[str, Reach]
    origins: Mapping[str, Mapping[str, Tensor]]

    def met(self, source: str, reader: str) -> list[str]:
        """Return the other sources that come to features of a reader to which a source comes."""
        return _met(self.reach, source, reader)


def flows_of(model: nn.Module, sites: Mapping[str, Site], example: Tensor, *, through_norms: bool = True) -> Flows:
    """Follow the channels of every layer through a model, whatever its forward pass does.

    All channels of a layer are marked at once, which says where they arrive. If nothing else arrives there, the layer
    of C channels takes 2 * ceil(log2(C)) passes more: pass b marks the channels whose number has bit b, another one all
    others. A feature of one channel sees the bits of its number in the first and their complement in the second; where
    it sees a mark in both, it comes from several channels.

    Args:
        model: left as it was.
        sites: its layers with parameters.
        example: an input of the model; the smaller, the faster.
        through_norms: look through batch norm to the layers behind; otherwise it counts as a reader that passes nothing
            on, and as another source.

    Raises:
        SupermaskError: the model's forward pass fails, or gives NaN by itself.

    """
    sources = {"weight", "opaque"} if through_norms else {"weight", "opaque", "norm"}
    with Probe(model, sites, example, through_norms).attached() as probe:
        seen, output = probe.arrivals({})
        if output or any(bool(features.any()) for features in seen.values()):
            raise SupermaskError("The network's channels cannot be followed: it gives NaN on an example by itself.")
        calls = dict(probe.calls)
        reach = {INPUT: _reach(probe.arrivals_of_input(), output=False)}
        reach |= {name: _reach(*probe.arrivals({name: None})) for name, site in sites.items() if site.kind in sources}
        alone = [site for site in sites.values() if site.kind == "weight" and _alone(reach, site.name)]
        return Flows(sites, calls, reach, {site.name: _origins(probe, site) for site in alone})


def _reach(seen: Mapping[str, Tensor], output: bool) -> Reach:
    return Reach({name: features for name, features in seen.items() if bool(features.any())}, output)


def _met(reach: Mapping[str, Reach], source: str, reader: str) -> list[str]:
    own = reach[source].features[reader]
    return [
        other
        for other, theirs in reach.items()
        if other != source and reader in theirs.features and bool((theirs.features[reader] & own).any())
    ]


def _alone(reach: Mapping[str, Reach], source: str) -> bool:
    own = reach[source]
    return not own.output and not any(_met(reach, source, reader) for reader in own.features)


def _origins(probe: Probe, site: Site) -> dict[str, Tensor]:
    channels = torch.arange(site.outputs)
    codes = [(channels >> bit) & 1 == 1 for bit in range(max(1, (site.outputs - 1).bit_length()))]
    ones = [probe.arrivals({site.name: code})[0] for code in codes]
    zeros = [probe.arrivals({site.name: ~code})[0] for code in codes]
    touched = {name: features for seen in ones + zeros for name, features in seen.items() if bool(features.any())}
    return {
        # a layer that a pass did not call, because the forward chose another way, has seen no mark
        name: _decoded(*(torch.stack([seen.get(name, like & ~like) for seen in side]) for side in (ones, zeros)))
        for name, like in touched.items()
    }


def _decoded(ones: Tensor, zeros: Tensor) -> Tensor:
    """Return the origin of each feature from what it saw, bool (bits, features), of the codes and their complements."""
    powers = 2 ** torch.arange(len(ones))
    channel = (ones * powers[:, None]).sum(0)
    exact = (ones ^ zeros).all(0)
    touched = (ones | zeros).any(0)
    return torch.where(exact, channel, torch.where(touched, SEVERAL, NONE))
