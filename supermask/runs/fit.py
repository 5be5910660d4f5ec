"""Whether a network and a data set go together: tried on two examples."""

from typing import Any

from supermask.data import DataSet
from supermask.data.batch import Batch
from supermask.errors import SupermaskError, first_line
from supermask.training.objective import Loss, Objective, logits_of, own_loss


def example_of(data_set: DataSet) -> Batch:
    """Return the first two training examples as a network takes them."""
    return Batch(data_set.normalize(data_set.train.images[:2]), data_set.train.labels[:2])


def described_inputs(data_set: DataSet) -> str:
    """Return what the inputs of a data set are, in the plural, e.g. "3x32x32 images"."""
    shape = "x".join(map(str, data_set.input_shape))
    if data_set.vocabulary is not None:
        return f"sequences of {shape} tokens"
    return f"{shape} images" if data_set.mean else f"inputs of {shape} numbers"


def refuse_unlabelled(data_set: DataSet) -> None:
    """Refuse data without one class for each example, for what compares accuracies.

    Raises:
        SupermaskError: its targets are floating, or there is one at each position.

    """
    labels = data_set.train.labels
    if labels.is_floating_point() or labels.ndim > 1:
        raise SupermaskError(
            f"{data_set.name} has not one class for each example, and tickets are judged by their accuracies; search,"
            " train, compare and evaluate take it."
        )


def misfit(outputs: Any, batch: Batch, data_set: DataSet, loss: Loss | None) -> str | None:
    """Return how what a network gives differs from what the data set wants; None where it does not.

    Args:
        outputs: of two examples.
        batch: these examples.
        data_set: that they are of.
        loss: that is given; None is the outputs' own, or the cross entropy.

    Raises:
        SupermaskError: the targets do not tell which loss is meant.

    """
    found = logits_of(outputs)
    labelled = loss is None and own_loss(outputs) is None and not batch.targets.is_floating_point()
    if labelled and found is not None:
        # classes are on the last axis, or of images (N, C, H, W) with a label at each pixel on the second
        axis = 1 if batch.targets.ndim > 2 else -1
        if found.ndim != batch.targets.ndim + 1 or found.shape[axis] != data_set.classes:
            return f"gives {tuple(found.shape[1:])} logits for {data_set.classes} classes"
    try:
        Objective(loss).cost(outputs, batch.targets)
    except SupermaskError:
        raise
    except Exception as error:  # a loss of the caller's own
        return f"gives outputs from which the loss cannot be taken: {first_line(error)}"
    return None
