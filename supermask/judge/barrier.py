"""The error barrier between two networks: linear mode connectivity (Frankle, Dziugaite, Roy & Carbin 2020)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from supermask.data import DataSet, Examples, draw_generator
from supermask.errors import SupermaskError
from supermask.parameters.copies import copy_of
from supermask.shown import quoted
from supermask.training import Recipe, reestimate
from supermask.training.batches import Prepared, on_device
from supermask.training.evaluation import outputs

STABLE = 0.02
"""Barrier, as a fraction, below which networks are stable to the noise of SGD (section 3.1)."""
POINTS = 30
"""Evenly spaced places between the two networks (section 3.1); the ends are among them."""
EXAMPLES = 5_000
"""Training examples, at most, that statistics are estimated and the training error is measured on: the standard errors
are 1.4 % of a deviation and 0.7 points."""

BATCH = 250
"""Examples of a batch: a small network's activations then stay in the caches, which takes half the time of 1,000."""

Statistics = Literal["estimated", "interpolated"]
"""What batch norm normalises with between two networks: see `barrier`."""
Part = Literal["test", "validation"]
"""Part of a data set on which errors are measured beside those on training examples."""


@dataclass(frozen=True)
class Barrier:
    """The errors along the straight line between two networks; all of them are fractions.

    Attributes:
        fractions: a of the networks a W1 + (1 - a) W2, from 0 to 1.
        errors: on the test set, or on the validation examples where those were asked for.
        train_errors: on training examples.
        distance: Euclidean, between the trained parameters of the two.
        disagreement: share of the same examples that the two classify differently.

    """

    fractions: tuple[float, ...]
    errors: tuple[float, ...]
    train_errors: tuple[float, ...]
    distance: float
    disagreement: float

    @property
    def height(self) -> float:
        """The largest test error minus the mean of those at the ends.

        The ends are among the places, as in the paper, so that it is at least half of the difference between them, and
        never negative: 0 says that the ends are equal and no place in between is worse.
        """
        return _height(self.errors)

    @property
    def train_height(self) -> float:
        """The same of the training error."""
        return _height(self.train_errors)

    @property
    def stable(self) -> bool:
        """Whether the test barrier is below two points."""
        return self.height < STABLE


def barrier(
    first: nn.Module,
    second: nn.Module,
    data: DataSet,
    points: int = POINTS,
    *,
    statistics: Statistics = "estimated",
    device: str | torch.device = "cpu",
    examples: int = EXAMPLES,
    part: Part = "test",
) -> Barrier:
    """Return the errors of networks between two others, and how high they rise above those of the ends.

    A pruned weight that is zero in both networks is zero in between. Of a task whose training examples are drawn at
    each step, they are drawn once. The test set is read once, or not at all where the errors are those on the
    validation examples.

    Args:
        first: a network that takes the data's images; it is left as it is, and so is the second.
        second: of the same architecture.
        data: test error and training error are measured on it.
        points: places, both ends included; at least 2.
        statistics: of batch norm. No training has visited the places in between, so that averages of the two networks'
            statistics are not theirs: "estimated" takes them again at every place, both ends included, from the first
            training examples; "interpolated" averages them, as some codes do, which raises the barrier.
        device: where to compute.
        examples: training examples, at most, that statistics are estimated and the training error is measured on.
        part: "test", or "validation" for what chooses something: a choice must not look at the test set.

    Raises:
        SupermaskError: the networks differ in their tensors or hold a number that is not finite, there are fewer than
            two points or examples, or the statistics are neither of the two.

    """
    if points < 2:
        raise SupermaskError(f"points={points} is too small; both ends are among them, so give at least 2.")
    if examples < 2:
        raise SupermaskError(f"examples={examples} is too small; statistics need at least 2.")
    if statistics not in get_args(Statistics):
        raise SupermaskError(f"Unknown statistics {quoted(statistics)}; known are {', '.join(get_args(Statistics))}.")
    ends = _state(first), _state(second)
    _refuse_different(*ends)
    line = _Line(first, data, torch.device(device), statistics, examples, part)
    fractions = np.linspace(0.0, 1.0, points).tolist()
    found = [line.at(between(*ends, fraction)) for fraction in fractions]
    trained = [name for name, _ in first.named_parameters()]
    return Barrier(
        fractions=tuple(fractions),
        errors=tuple(place.error for place in found),
        train_errors=tuple(place.train_error for place in found),
        distance=distance(*({name: end[name] for name in trained} for end in ends)),
        disagreement=float((found[0].classes != found[-1].classes).double().mean()),
    )


def between(first: Mapping[str, Tensor], second: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """Return the tensors a W1 + (1 - a) W2; those of whole numbers are the first's.

    Where the two are equal, so is what lies between them, to the bit.

    Args:
        first: W1, a state dictionary.
        second: W2, of the same names and shapes.
        fraction: a; 1 gives the first to the bit, 0 the second.

    """
    if fraction in (0.0, 1.0):  # products with 0 would turn an infinite number into NaN, and lose the sign of a zero
        return {name: tensor.clone() for name, tensor in (first if fraction else second).items()}
    # lerp and not the sum of two products, which rounds: the middle of two equal numbers may be another one
    return {
        name: torch.lerp(second[name], tensor, fraction) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in first.items()
    }


def distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the Euclidean distance between two sets of tensors of the same names and shapes."""
    squares = [(tensor.double() - second[name].double()).square().sum() for name, tensor in first.items()]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


@dataclass(frozen=True)
class _Place:
    """What a network does: its errors, and the classes that it gives the test examples."""

    error: float
    train_error: float
    classes: Tensor


class _Line:
    """Measures networks of one architecture on one data set, which is read once for all of them."""

    def __init__(
        self,
        model: nn.Module,
        data: DataSet,
        device: torch.device,
        statistics: Statistics,
        examples: int,
        part: Part,
    ) -> None:
        self._model = copy_of(model).to(device)
        self._estimated = statistics == "estimated"
        images, labels = data.train.images[:examples], data.train.labels[:examples]
        if data.draw is not None:  # the stored examples are not those of the task
            images, labels = data.draw(images, labels, draw_generator(0, -1))
        train = Examples(images, labels)
        recipe = Recipe(channels_last=_channels_last(model))
        self._train = Prepared(data, on_device(train, device), recipe, batch=BATCH)
        tested = data.test() if part == "test" else data.validation
        self._test = replace(self._train, examples=on_device(tested, device))

    def at(self, tensors: Mapping[str, Tensor]) -> _Place:
        self._model.load_state_dict(dict(tensors))
        if self._estimated:
            reestimate(self._model, self._batches())
        classes, error = self._classified(self._test)
        _, train_error = self._classified(self._train)
        return _Place(error, train_error, classes)

    def _batches(self) -> Iterator[Tensor]:
        """Return the training examples in whole batches: a smaller one would count as much as another."""
        whole = min(BATCH, len(self._train.examples))
        return (images for images, _ in self._train if len(images) == whole)

    def _classified(self, examples: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, float]:
        found = [(logits.argmax(1), labels) for logits, labels in outputs(self._model, examples)]
        classes = torch.cat([classes for classes, _ in found])
        wrong = classes != torch.cat([labels for _, labels in found])
        return classes, float(wrong.double().mean())


def _channels_last(model: nn.Module) -> bool:
    """Return whether a network was trained with its channels last, in which layout it is faster then."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    return any(
        weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous() for weight in weights
    )


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def _height(errors: tuple[float, ...]) -> float:
    return max(errors) - (errors[0] + errors[-1]) / 2


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _refuse_different(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    there, here = ({name: _described(tensor) for name, tensor in end.items()} for end in (first, second))
    if there != here:
        differ = next(name for name in {**there, **here} if there.get(name) != here.get(name))
        raise SupermaskError(
            f"The two networks differ in {differ}: {there.get(differ, 'missing')} and {here.get(differ, 'missing')};"
            " give two of one architecture."
        )
    for number, end in enumerate((first, second), 1):
        for name, tensor in end.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise SupermaskError(f"{name} of network {number} holds a number that is not finite.")
