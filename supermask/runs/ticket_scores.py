"""The examples of a data set in batches that fit a ticket's network, and accuracies by class."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from supermask.data import DataSet, Examples
from supermask.graph import largest_activation
from supermask.training import Recipe
from supermask.training.batches import EVALUATION_BATCH, Prepared

LARGEST = 8 << 20
"""Bytes of the largest activation of a batch on a CPU.

glibc asks the system for each block above 32 MiB again, and every page of such a block faults on its first use; it
gives smaller ones back where many are freed at once, as several of half that size are. Much smaller batches make small
layers slow.
"""


def batches_for(network: nn.Module, data_set: DataSet, examples: Examples) -> Prepared:
    """Return the examples in the batches that training evaluates, on a CPU in smaller ones for large activations."""
    batches = Prepared(data_set, examples, Recipe())
    if examples.labels.device.type != "cpu" or not len(examples):
        return batches
    one = largest_activation(network, next(iter(replace(batches, batch=1)))[0])
    return replace(batches, batch=min(EVALUATION_BATCH, max(1, LARGEST // max(1, one))))


def per_class(found: Iterable[tuple[Tensor, Tensor]], classes: int) -> list[float]:
    """Return the accuracy within each class, of logits (batch, classes) and labels; 0 for a class without examples."""
    correct, total = torch.zeros(classes), torch.zeros(classes)
    for logits, labels in found:
        right = (logits.argmax(1) == labels).cpu()
        total += torch.bincount(labels.cpu(), minlength=classes)
        correct += torch.bincount(labels.cpu()[right], minlength=classes)
    return [float(share) for share in correct / total.clamp(min=1)]


def top_5(found: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the fraction of labels among the five largest logits (batch, classes) of their example; 0 without any.

    Of equal logits at the fifth place any may be counted, as `torch.topk` chooses.
    """
    right, total = 0, 0
    for logits, labels in found:
        largest = logits.topk(min(5, logits.shape[1]), dim=1).indices
        right += int((largest == labels[:, None]).sum())
        total += len(labels)
    return right / max(1, total)
