"""The target and what was built for it, on a data set."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from supermask import data
from supermask.data import DataSet, Examples
from supermask.errors import SupermaskError
from theory import Built
from theory.ascent import norms
from theory.cli.targets import TargetNetwork
from theory.norms import Norm
from theory.target import Shape

BATCH = 200
"""Images at a time: in float64 the random network's hidden tensors are large."""


@dataclass(frozen=True)
class NetworkComparison:
    """A target and its ticket on the test set.

    Attributes:
        total: examples.
        target_correct: examples that the target classifies right.
        correct: those that the ticket does.
        disagreements: examples that the two classify differently.
        outside: examples outside of the ball that the certificate is for.
        largest_difference: of the outputs, in the norm.
        within: whether that is at most epsilon.

    """

    total: int
    target_correct: int
    correct: int
    disagreements: int
    outside: int
    largest_difference: float
    within: bool


def images_of(name: str, folder: Path | None, *, raw: bool) -> DataSet:
    """Return a data set with its pixels as the target takes them, all its training images together."""
    found = data.load(name, folder=folder, validation=0)
    return found.raw() if raw else found


def compare(target: nn.Module, built: Built, data_set: DataSet) -> NetworkComparison:
    """Run both networks in float64 on the test set, with a progress bar where standard error is a terminal."""
    certificate, examples = built.certificate, data_set.test()
    target_correct = correct = disagreements = outside = 0
    largest = 0.0
    with torch.no_grad(), tqdm(total=len(examples), unit="image", disable=None, leave=False) as bar:
        for inputs, labels in _batches(data_set, examples):
            wanted, found = target(inputs), built.network(inputs)
            target_correct += int((wanted.argmax(1) == labels).sum())
            correct += int((found.argmax(1) == labels).sum())
            disagreements += int((wanted.argmax(1) != found.argmax(1)).sum())
            beyond = norms(inputs, certificate.norm) > certificate.radius
            if not certificate.domain.signed:
                beyond |= (inputs.flatten(1) < 0.0).any(1)
            outside += int(beyond.sum())
            largest = max(largest, float(norms(wanted - found, certificate.norm).max()))
            bar.update(len(labels))
    within = largest <= built.epsilon
    return NetworkComparison(len(examples), target_correct, correct, disagreements, outside, largest, within)


def largest_norm(data_set: DataSet | None, norm: Norm) -> float:
    """Return the largest norm of the training images, as a network gets them; 1 without a data set."""
    if data_set is None:
        return 1.0
    return max(float(norms(inputs, norm).max()) for inputs, _ in _batches(data_set, data_set.train))


@torch.no_grad()
def check_takes(target: TargetNetwork, data_set: DataSet) -> None:
    """Refuse a target that is for other images, or other classes.

    Raises:
        SupermaskError: it is.

    """
    shape: Shape = data_set.input_shape
    images = "x".join(map(str, shape))
    if target.input_shape not in (None, shape):
        wanted = "x".join(map(str, target.input_shape or ()))
        raise SupermaskError(f"{target.name} takes {wanted} images, and those of {data_set.name} are {images}.")
    try:
        outputs = target.network(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:]
    except RuntimeError:
        raise SupermaskError(f"{target.name} does not take the {images} images of {data_set.name}.") from None
    if outputs != (data_set.classes,):
        given = "x".join(map(str, outputs))
        raise SupermaskError(f"{target.name} has {given} outputs, and {data_set.name} {data_set.classes} classes.")


def _batches(data_set: DataSet, examples: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs float64 and labels."""
    for images, labels in zip(examples.images.split(BATCH), examples.labels.split(BATCH), strict=True):
        yield data_set.normalize(images).double(), labels
