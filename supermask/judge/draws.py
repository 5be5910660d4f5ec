"""What controls draw: entries in another order, and a ticket whose layers have other densities."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from supermask.random.keyed import keyed_permutation
from supermask.random.weights import digest, grow_all
from supermask.ticket import Ticket

_TRIES = 64  # draws of a small mask that may all leave it as it was: a chance of 2^-64 at the most


def shuffled(mask: Tensor, seed: int, *purpose: str | int) -> Tensor:
    """Return the entries of a mask in an order drawn by (seed, purpose), which may be the one that they had."""
    order = keyed_permutation(mask.numel(), seed, "control", *purpose)
    return mask.reshape(-1)[torch.from_numpy(order)].reshape(mask.shape)


def moved(mask: Tensor, seed: int, *purpose: str) -> Tensor:
    """Return the entries of a mask in another order, drawn by (seed, purpose) among all that change the mask."""
    if bool(mask.all()) or not bool(mask.any()):
        return mask.clone()
    orders = (shuffled(mask, seed, *purpose, attempt) for attempt in range(_TRIES))
    return next((other for other in orders if not torch.equal(other, mask)), mask.clone())


def remasked(ticket: Ticket, masks: Mapping[str, Tensor]) -> Ticket:
    """Return the ticket with masks that may give its layers other densities.

    Its weights stay, bit for bit, but where a layer was scaled so that what its mask leaves has the variance of the
    distribution: there the scale follows the new mask. Left as it was, it would let layers explode or fade, and a
    control would fail by its scale and not by its mask.

    Args:
        ticket: left as it is.
        masks: of the same layers.

    """
    other, scaled = ticket.remasked(masks), _scaled(ticket)
    scales = {
        name: math.sqrt(mask.numel() / _squares(other, name)) / _gain(ticket, name)
        for name, mask in masks.items()
        # an empty layer has no such scale, and one with its old count keeps the one that it has
        if name in scaled and int(mask.sum()) not in (0, int(ticket.masks[name].sum()))
    }
    weights = {name: replace(weight, scale=scales.get(name, weight.scale)) for name, weight in ticket.weights.items()}
    new = digest(grow_all(weights, ticket.seed)) if scales else ticket.digest
    return replace(other, weights=weights, digest=new)


def _scaled(ticket: Ticket) -> set[str]:
    """Return the layers whose scale and gain make up for what their masks prune, to one weight.

    In tickets of a global scope from before there were gains, the scale is that of the network's density.
    """
    found, whole = set[str](), set[str]()
    if ticket.checkpoint:  # given weights are not scaled
        return found
    for name, mask in ticket.masks.items():
        scale, squares = ticket.weights[name].scale, _squares(ticket, name)
        counts = (squares, mask.numel(), scale * _gain(ticket, name)), (ticket.kept, ticket.prunable, scale)
        # a scale may be of the density that was asked for, which a count only rounds; a gain has 7 digits, of float32
        if any(factor != 1.0 and abs(kept - of / factor**2) <= 1.0 + 1e-6 * kept for kept, of, factor in counts):
            found.add(name)
        elif squares == mask.numel() and scale == _gain(ticket, name) == 1.0:
            whole.add(name)
    # the factor of a layer that is kept whole is always 1; it counts as scaled if any other layer is
    return found | whole if found else found


def _gain(ticket: Ticket, name: str) -> float:
    return ticket.treatments[name].gain if name in ticket.treatments else 1.0


def _squares(ticket: Ticket, name: str) -> int:
    """Return the sum of the squares of the factors of a layer's kept weights: how many are kept, where all are 1."""
    factors = ticket.treatments[name].factors if name in ticket.treatments else None
    return int((ticket.masks[name] if factors is None else factors.int().square()).sum())
