"""`supermask transfer`: the ticket of one data set, trained on another beside its controls."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn
from tyro.conf import OmitArgPrefixes, Positional, arg

from supermask import data, models
from supermask.baselines.sparse import Sparse, whole_ticket
from supermask.cli.options import DIGITS, Common, DataName
from supermask.data import DataSet
from supermask.errors import SupermaskError
from supermask.files import held, make_folder, write_json
from supermask.judge.transfer import Carried, carried, with_controls
from supermask.report import table
from supermask.runs.ticket_model import Described, described, refuse_unasked
from supermask.ticket import Ticket
from supermask.training import Recipe, train
from supermask.training.result import Scored


@dataclass(frozen=True)
class Transfer(Common):
    """Carry a ticket's masks to another data set and train it there, beside its masks over other weights and shuffled.

    Layers of the same name and shape take the masks; a head for other classes is drawn again and stays whole (Morcos et
    al. 2019). In a network of another width, units are repeated or left out.
    """

    ticket: Positional[Path] = Path("network.ticket")
    """The ticket file, of a network of this package."""

    data: DataName = "digits"

    validation: int | None = None
    """Examples held out of the training set to choose the best step; by default what is usual for the data set."""

    width: float | None = None
    """Factor on the layer widths of the network that is trained; by default that of the ticket's."""

    initial: str = "kaiming_normal"
    """Distribution of the weights; those of the ticket's seed are its own where it has the same distribution."""

    recipe: OmitArgPrefixes[Recipe] = field(default_factory=lambda: DIGITS)

    out: Annotated[Path | None, arg(metavar="PATH")] = None
    """Folder for transfer.json and carried.ticket; by default the ticket's own folder."""

    def __call__(self) -> None:
        """Carry the ticket, train it and its controls, and show them."""
        device = torch.device(self.prepare())
        ticket = Ticket.load(self.ticket)
        network = self._described(ticket)
        if self.width is not None:
            network = network._replace(width=self.width)
        data_set = data.load(self.data, folder=self.data_folder, validation=self.validation, seed=self.seed)
        whole = whole_ticket(_built(network, data_set), seed=ticket.seed, weights=self.initial)
        found = carried(ticket, whole, stretch=self.width is not None)
        out = make_folder(self.out or self.ticket.parent)
        with held(out):
            scores = {
                name: self._trained(Sparse(_built(network, data_set), each), data_set, device)
                for name, each in with_controls(found.ticket, seed=self.seed).items()
            }
            found.ticket.save(out / "carried.ticket")  # now, or it would lie there where the training is refused
            write_json(out / "transfer.json", self._values(found, data_set, scores))
            rows = [[name, f"{score.accuracy:.2%}"] for name, score in scores.items()]
            print(table([f"{self.ticket.name} on {data_set.name}", "test accuracy"], rows))
            left = f", whole: {', '.join(found.left)}" if found.left else ""
            weights = "its own weights" if found.same_weights else f"weights of its seed, {self.initial}"
            print(f"\n{len(found.taken)} layers at density {found.density:.2%}, over {weights}{left}.")

    def _trained(self, sparse: Sparse, data_set: DataSet, device: torch.device) -> Scored:
        return Scored.of(train(sparse, data_set, self.recipe, seed=self.seed, device=device).test)

    def _values(self, found: Carried, data_set: DataSet, scores: dict[str, Scored]) -> dict[str, Any]:
        return {
            "ticket": self.ticket.name,
            "data": data_set.name,
            "width": self.width,
            "taken": list(found.taken),
            "left": list(found.left),
            "same_weights": found.same_weights,
            "density": found.density,
            "recipe": asdict(self.recipe),
            "test": {name: asdict(score) for name, score in scores.items()},
        }

    def _described(self, ticket: Ticket) -> Described:
        """Return the network that the ticket names.

        Raises:
            SupermaskError: it names none, or code.

        """
        refuse_unasked(ticket, self.ticket, None)
        network = described(ticket)
        if network is None:
            raise SupermaskError(f"{self.ticket} names no network; take a ticket that a command of supermask wrote.")
        return network


def _built(network: Described, data_set: DataSet) -> nn.Module:
    """Return the network, freshly built for the inputs and the classes of a data set."""
    return models.make(
        network.name,
        input_shape=data_set.input_shape,
        classes=data_set.outputs,
        width=network.width,
        vocabulary=data_set.vocabulary,
    )
