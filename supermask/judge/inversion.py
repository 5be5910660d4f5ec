"""The inversion of a ticket: of each layer the weights that its scores rank lowest."""

from collections.abc import Mapping

import torch
from torch import Tensor

from supermask.errors import TicketError
from supermask.random.keyed import keyed_permutation
from supermask.ticket import Ticket

Scores = Mapping[str, Tensor]


def inverted(ticket: Ticket, scores: Scores, seed: int) -> dict[str, Tensor]:
    """Return masks that keep the lowest scores, in each layer as many as the ticket does.

    Scores are ranked by magnitude or with their sign, as the ticket's own options say (those of edge-popup do), else
    by whichever of the two explains its masks: baselines keep the largest of scores that have a sign by design.
    Among equal scores the seed draws: by their order alone all would be kept in the first rows.

    Args:
        ticket: left as it is.
        scores: that chose its masks, by parameter name.
        seed: of the draws among equal scores.

    Raises:
        TicketError: a layer has no scores of its shape, or the scores did not choose these masks.

    """
    ranks = _ranks(ticket, scores)
    return {name: _lowest(ranks[name], int(mask.sum()), seed, name) for name, mask in ticket.masks.items()}


def _ranks(ticket: Ticket, scores: Scores) -> Scores:
    """Return what the scores were ranked by."""
    missing = [name for name, mask in ticket.masks.items() if name not in scores or scores[name].shape != mask.shape]
    if missing:
        raise TicketError(f"There are no scores of the right shape for {', '.join(missing)}; give those of the ticket.")
    signed = {name: scores[name].detach().cpu() for name in ticket.masks}
    magnitudes = {name: score.abs() for name, score in signed.items()}
    for ranks in {"signed": (signed,), "magnitude": (magnitudes,)}.get(_stated(ticket), (signed, magnitudes)):
        if all(_explains(ranks[name], mask) for name, mask in ticket.masks.items()):
            return ranks
    raise TicketError(
        "The scores did not choose the ticket's masks: a weight that was pruned has a larger one than one that was"
        " kept; give the scores of the ticket."
    )


def _stated(ticket: Ticket) -> str:
    """Return how the ticket says that its scores are ranked; nothing if it does not."""
    options = ticket.provenance.get("options")
    return str(options.get("score", "")) if isinstance(options, Mapping) else ""


def _explains(rank: Tensor, mask: Tensor) -> bool:
    """Return whether no pruned weight ranks above a kept one; NaN explains nothing, as it is not above anything."""
    return bool(mask.all()) or not bool(mask.any()) or bool(rank[mask].min() >= rank[~mask].max())


def _lowest(rank: Tensor, count: int, seed: int, name: str) -> Tensor:
    order = torch.from_numpy(keyed_permutation(rank.numel(), seed, "control", "inverted", name))
    # a drawn order first, which the stable sort keeps among equal scores
    places = order[torch.argsort(rank.reshape(-1)[order], stable=True)]
    mask = torch.zeros(rank.numel(), dtype=torch.bool)
    mask[places[:count]] = True
    return mask.reshape(rank.shape)
