"""Hidden units of one network matched with those of another, and masks carried along."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.graph import channel_graph

_PASSES = 100  # of all layers; each lowers the distance, and small networks end after three to six


@dataclass(frozen=True)
class _Units:
    """The hidden units of one layer.

    Attributes:
        count: of them.
        written: parameters with a unit in each row.
        read: parameters with units in their columns: which unit each column reads, -1 where it reads another layer's.

    """

    count: int
    written: tuple[str, ...]
    read: Mapping[str, Tensor]


@dataclass(frozen=True)
class Matching:
    """An order of the hidden units of a network that brings its weights near to those of another.

    Attributes:
        orders: by layer, int64 (units,): unit i of the other network is unit orders[i] of this one.
        distance: squared, of the weights in this order from the other's.
        before: the same in the order as they are.

    """

    orders: Mapping[str, Tensor]
    distance: float
    before: float
    units: Mapping[str, _Units]

    def apply(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors of the network, such as masks or weights, in the order of the other; all else as it is."""
        moved = dict(tensors)
        for name, units in self.units.items():
            moved = _moved(moved, units, self.orders[name])
        return moved


def match_units(
    model: nn.Module, first: Mapping[str, Tensor], second: Mapping[str, Tensor], example: Tensor
) -> Matching:
    """Find the order of hidden units in which the weights of one network are nearest to those of another.

    Weight matching (Ainsworth, Hayase & Srinivasa 2023, algorithm 1): layer by layer, the assignment of units that is
    best with the other layers as they are now, until nothing moves. It ends in a local optimum. A mask in that order is
    one for the other network's units (Adnan et al. 2025 carry masks to new initialisations so, by trained networks).

    Only layers whose units no other layer shares, as at the ends of residual branches, are moved.

    Args:
        model: of the architecture; left as it is.
        first: its parameters, by name.
        second: those of the other network.
        example: an input of two examples or more.

    Raises:
        SupermaskError: no layer can be moved; or the model cannot be read as a graph.

    """
    units = _units_of(model, example)
    if not units:
        raise SupermaskError("No layer has hidden units of its own that could be matched; choose a deeper network.")
    ours = {name: first[name].detach().double().cpu() for name in first}
    theirs = {name: second[name].detach().double().cpu() for name in first}
    before = _distance(ours, theirs)
    orders = {name: torch.arange(each.count) for name, each in units.items()}
    for _ in range(_PASSES):
        still = True
        for name, each in units.items():
            order = _best_order(each, ours, theirs)
            if not torch.equal(order, torch.arange(each.count)):
                still, ours = False, _moved(ours, each, order)
                orders[name] = orders[name][order]
        if still:
            break
    return Matching(orders, _distance(ours, theirs), before, units)


def _units_of(model: nn.Module, example: Tensor) -> dict[str, _Units]:
    """Return the hidden units of each layer that may be put into another order."""
    graph = channel_graph(model, example)
    known = dict(model.named_parameters())
    found = {}
    for name, layer in graph.layers.items():
        rows, groups = layer.rows, graph.groups(layer.rows).tolist()
        readers = graph.readers(rows)
        alone = graph.producers(rows) == [name] and len({*groups}) == len(groups)
        if not alone or not readers or graph.reason(rows) is not None or f"{name}.weight" not in known:
            continue
        unit = {group: place for place, group in enumerate(groups)}
        read = {}
        for reader in readers:
            columns = graph.layers[reader].columns
            assert columns is not None
            read[f"{reader}.weight"] = torch.tensor([unit.get(group, -1) for group in graph.groups(columns).tolist()])
        followers = [other for other, f in graph.followers.items() if {*graph.groups(f.rows).tolist()} <= {*groups}]
        written = [f"{owner}.{leaf}" for owner in (name, *followers) for leaf in ("weight", "bias")]
        found[name] = _Units(len(groups), tuple(each for each in written if each in known), read)
    return found


def _best_order(units: _Units, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Tensor:
    gain = torch.zeros(units.count, units.count, dtype=torch.float64)
    for name in units.written:
        one, other = (tensors[name].reshape(units.count, -1) for tensors in (theirs, ours))
        gain += one @ other.T
    for name, columns in units.read.items():
        for place in range(int((columns == 0).sum())):
            chosen = _columns_at(columns, units.count, place)
            one, other = (tensors[name][:, chosen].transpose(0, 1).flatten(1) for tensors in (theirs, ours))
            gain += one @ other.T
    rows, found = linear_sum_assignment(gain.numpy(), maximize=True)
    order = torch.from_numpy(found)
    stay = torch.arange(units.count)
    # among equal assignments the present one, so that a network matched with itself stays
    return order if gain[rows, found].sum() > gain[stay, stay].sum() * (1 + 1e-12) else stay


def _columns_at(columns: Tensor, count: int, place: int) -> Tensor:
    """Return for each unit its column number `place`: a flattened image has one for each pixel."""
    return torch.stack([(columns == unit).nonzero()[place, 0] for unit in range(count)])


def _moved(tensors: Mapping[str, Tensor], units: _Units, order: Tensor) -> dict[str, Tensor]:
    moved = dict(tensors)
    for name in units.written:
        if name in moved:
            moved[name] = moved[name][order.to(moved[name].device)]
    for name, columns in units.read.items():
        if name not in moved:
            continue
        result = moved[name].clone()
        for place in range(int((columns == 0).sum())):
            chosen = _columns_at(columns, units.count, place).to(result.device)
            result[:, chosen] = moved[name][:, chosen[order.to(result.device)]]
        moved[name] = result
    return moved


def _distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    return float(sum(float((ours[name] - theirs[name]).square().sum()) for name in ours))
