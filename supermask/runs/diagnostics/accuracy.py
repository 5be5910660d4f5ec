"""How accurate a ticket's network is on the test set, as it is: in all, by class, and what it takes for what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from supermask.report.intervals import Share, share
from supermask.report.page import Fact, Section, Table
from supermask.report.rows import Bar, rows_figure
from supermask.runs.diagnostics.context import Context
from supermask.runs.diagnostics.diagnostic import Diagnosed, OfNetwork, Size
from supermask.runs.ticket_scores import batches_for
from supermask.training.batches import on_device
from supermask.training.evaluation import outputs, scored
from supermask.training.result import Scored

SHOWN = 20
"""Most classes of the table and of the figure: with more, the least accurate ones."""
CONFUSED = 5
"""Confusions that are listed."""


@dataclass(frozen=True)
class ClassScore:
    """How one class fares.

    Attributes:
        label: of the class.
        correct: its test images that are recognised.
        total: its test images.
        mistaken: the label that it is most often mistaken for; None where it never is.
        mistakes: how often.

    """

    label: int
    correct: int
    total: int
    mistaken: int | None
    mistakes: int

    @property
    def share(self) -> Share:
        """The fraction that is recognised."""
        return share(self.correct, self.total)


@dataclass(frozen=True, kw_only=True)
class AccuracyResult(Diagnosed):
    """How accurate the network is.

    Attributes:
        test: its score on the test set.
        validation: its score on the validation part.
        classes: how each class of the test set fares.
        strong: whether the ticket's claim is about this network.

    """

    test: Scored
    validation: Scored
    classes: tuple[ClassScore, ...]
    strong: bool


class Accuracy(OfNetwork[AccuracyResult]):
    """How accurate the network is as the file gives it."""

    name: ClassVar[str] = "accuracy"
    title: ClassVar[str] = "Accuracy"
    kind = AccuracyResult

    def sizes(self, context: Context) -> Sequence[Size]:
        """Return its one size."""
        images = len(context.test) + len(context.data.validation)
        return (Size(context.speed.build + context.speed.evaluation(images)),)

    def measure(self, context: Context, size: Size, folder: Path, left: Callable[[], float]) -> AccuracyResult:
        """Evaluate the network on the test set and on the validation part."""
        network, data = context.network(), context.data
        test = list(outputs(network, batches_for(network, data, context.test)))
        held = on_device(data.validation, context.device)
        return AccuracyResult(
            test=Scored.of(scored(test)),
            validation=Scored.of(scored(outputs(network, batches_for(network, data, held)))),
            classes=_classes(_confusion(test, data.classes)),
            strong=context.strong,
        )

    def section(self, context: Context, result: AccuracyResult) -> Section:
        """Return the accuracy of each class, the least accurate one first."""
        worst = sorted(result.classes, key=lambda each: each.share.value)[:SHOWN]
        fewer = f" Of {len(result.classes)} classes these are the {SHOWN} least accurate." if worst[SHOWN:] else ""
        rows = [
            [str(each.label), f"{100 * each.share.value:.2f} %", _between(each.share), f"{each.total:,}", _taken(each)]
            for each in worst
        ]
        # errors, because accuracies near 100 % all look alike
        bars = {f"class {each.label}": {"error": _error(each.share)} for each in worst}
        header = ["class", "accuracy", "95 % interval", "test images", "most often mistaken for"]
        return Section(
            self.title,
            _text(result) + fewer,
            _confusions(result),
            Table(header, rows),
            rows_figure(bars, "test error (%)"),
            f"Bars of the test error of each class. Accuracies are from {_percent(worst[0])} to {_percent(worst[-1])}.",
            context.command("evaluate"),
        )

    def facts(self, result: AccuracyResult) -> Sequence[Fact]:
        """Return the accuracy in a line."""
        found = share(result.test.correct or 0, result.test.total)
        state = "" if result.strong else ", before any training, which is not what a weak ticket claims"
        return (
            Fact("Test accuracy", f"{found.percent()}, {result.test.total:,} images{state}"),
            Fact("Test error", f"{100 - 100 * found.value:.2f} points"),
        )


def _text(result: AccuracyResult) -> str:
    test, held = (share(score.correct or 0, score.total) for score in (result.test, result.validation))
    error = f"{100 - 100 * test.value:.2f} points ({100 - 100 * test.high:.2f} to {100 - 100 * test.low:.2f})"
    text = (
        f"The network recognises {result.test.correct:,} of {result.test.total:,} test images: {test.percent()}, an"
        f" error of {error}. The mean cross-entropy is {result.test.loss:.4f} nats. Intervals hold with 95 % confidence"
        " (Wilson); they say what another test set of this size could show, and nothing about another seed.\n\n"
    )
    if held.total:
        text += f"On the {held.total:,} validation images, by which a search chooses, it has {held.percent()}."
    if not result.strong:
        text += (
            "\n\nThe ticket is a weak one, and these are its weights before their training. The section on trained"
            " controls says what they reach."
        )
    return text


def _confusion(found: Sequence[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """Return how often each label (a row) was taken for each (a column), int64 (classes, classes)."""
    counts = torch.zeros(classes * classes, dtype=torch.int64)
    for logits, labels in found:
        counts += torch.bincount((labels * classes + logits.argmax(1)).cpu(), minlength=classes * classes)
    return counts.reshape(classes, classes)


def _classes(confusion: Tensor) -> tuple[ClassScore, ...]:
    correct, total = confusion.diagonal(), confusion.sum(1)
    most, taken = (confusion - torch.diag(correct)).max(1)
    return tuple(
        ClassScore(label, int(correct[label]), int(total[label]), int(taken[label]) if count else None, int(count))
        for label, count in enumerate(most)
    )


def _confusions(result: AccuracyResult) -> list[str]:
    """Return the most frequent confusions, each class with the one that it is most often mistaken for."""
    often = sorted((each for each in result.classes if each.mistakes), key=lambda each: -each.mistakes)[:CONFUSED]
    return [
        f"Class {each.label} is taken for class {each.mistaken} in {each.mistakes:,} of its {each.total:,} images"
        f" ({100 * each.mistakes / each.total:.2f} %)."
        for each in often
    ]


def _between(found: Share) -> str:
    return f"{100 * found.low:.2f} to {100 * found.high:.2f} %"


def _error(found: Share) -> Bar:
    return Bar(100 - 100 * found.value, 100 - 100 * found.high, 100 - 100 * found.low)


def _taken(each: ClassScore) -> str:
    return "-" if each.mistaken is None else f"{each.mistaken} ({each.mistakes:,})"


def _percent(each: ClassScore) -> str:
    return f"{100 * each.share.value:.2f} % (class {each.label})"
