"""What a ticket's file and its training examples prove together: a bound of its error, and a code of their labels."""

from dataclasses import dataclass

import torch
from torch import nn

from supermask.data import DataSet, Examples
from supermask.judge import GeneralizationBound, LabelCode, generalization_bound, label_code_length
from supermask.runs.ticket_scores import batches_for
from supermask.ticket import Ticket
from supermask.training.batches import on_device
from supermask.training.evaluation import Score, evaluate


@dataclass(frozen=True)
class Proof:
    """A bound of a ticket's error on examples to come, and the code of the training labels that it gives.

    Both count all examples that are not of the test set: the bound holds for all files at once, so that validation
    examples may have chosen this one.
    """

    bound: GeneralizationBound
    labels: LabelCode

    def text(self) -> str:
        """Return both, with their conditions, as lines."""
        return f"{bound_text(self.bound)}\n\n{self.labels.table()}"


def bound_text(bound: GeneralizationBound) -> str:
    """Return a bound and its conditions as lines."""
    return "\n".join([f"Error on examples to come: {bound.text()}, if", *(f"- {line}" for line in bound.conditions)])


def training_examples(data_set: DataSet) -> Examples:
    """Return all examples that are not of the test set, whatever drew the validation split."""
    train, validation = data_set.train, data_set.validation
    if not len(validation):
        return train
    return Examples(torch.cat([train.images, validation.images]), torch.cat([train.labels, validation.labels]))


def is_provable(ticket: Ticket, data_set: DataSet) -> bool:
    """Whether labels and a ticket are such that the training error bounds the error: see `generalization_bound`.

    Characters of a text and examples that are drawn at each step are no independent examples; what a checkpoint
    was trained on is not known here; a weak ticket is not the network that its training ends in.
    """
    labels = data_set.train.labels
    independent = labels.ndim == 1 and not labels.is_floating_point() and data_set.draw is None
    return independent and ticket.checkpoint is None and not ticket.provenance.get("trained", False)


def proof_by(ticket: Ticket, score: Score, data_set: DataSet) -> Proof:
    """Return the proof of a ticket by the score of its network on the training examples, all independent."""
    loss, wrong = score.loss, 1.0 - score.accuracy
    return Proof(
        generalization_bound(ticket, train_error=wrong, examples=score.total),
        label_code_length(ticket, train_loss=loss, examples=score.total, classes=data_set.classes),
    )


def proof_of(ticket: Ticket, network: nn.Module, data_set: DataSet, device: torch.device) -> Proof | None:
    """Return the proof of a ticket; None where training examples prove nothing of it.

    Args:
        ticket: whose file is counted.
        network: freshly built; the ticket is applied to it.
        data_set: that the ticket was found on.
        device: where to compute.

    """
    if not is_provable(ticket, data_set):
        return None
    network = ticket.apply(network).to(device).eval()
    return proof_by(
        ticket,
        evaluate(network, batches_for(network, data_set, on_device(training_examples(data_set), device))),
        data_set,
    )
