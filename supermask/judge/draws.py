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

    Its weights stay, bit for bit, but where a layer was multiplied by 1/sqrt(density) so that what its mask leaves has
    the variance of the distribution: there the factor follows the new density. Left as it was, it would let layers
    explode or fade, and a control would fail by its scale and not by its mask.

    Args:
        ticket: left as it is.
        masks: of the same layers.

    """
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    scales = {
        name: math.sqrt(mask.numel() / counts[name])
        for name, mask in ticket.masks.items()
        # an empty layer has no such factor, and one with its old count keeps the one that it has
        if counts[name] not in (0, int(mask.sum())) and _is_scaled(ticket, name)
    }
    weights = {name: replace(weight, scale=scales.get(name, weight.scale)) for name, weight in ticket.weights.items()}
    new = digest(grow_all(weights, ticket.seed)) if scales else ticket.digest
    return replace(ticket.remasked(masks), weights=weights, digest=new)


def _is_scaled(ticket: Ticket, name: str) -> bool:
    """Return whether a layer has the factor 1/sqrt(density), of its own density or the network's, to one weight."""
    own, factor = ticket.masks[name], ticket.weights[name].scale ** 2
    counts = ((int(own.sum()), own.numel()), (ticket.kept, ticket.prunable))
    # to one weight: the factor may be of the density that was asked for, which a count only rounds
    return factor != 1.0 and any(abs(kept - of / factor) <= 1.0 for kept, of in counts)
