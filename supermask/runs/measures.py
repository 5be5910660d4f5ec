"""What a score is called, and how it is written: accuracy of classes, nats of characters, or a loss."""

import math
from collections.abc import Iterable

from supermask.training.result import Scored

TEXT = "text:"
"""How the name of a data set of characters begins."""


def by_loss(data: str, scores: Iterable[Scored]) -> bool:
    """Whether runs on a data set are told apart by their loss: on text, and where predictions are not classes."""
    return data.startswith(TEXT) or any(score.correct is None for score in scores)


def loss_text(loss: float, data: str) -> str:
    """Return a mean loss with its unit, e.g. "1.9402 nats (2.7991 bits) per character"."""
    return f"{loss:.4f} nats ({loss / math.log(2):.4f} bits) per character" if data.startswith(TEXT) else f"{loss:.4f}"


def score_rows(score: Scored, data: str, part: str = "") -> list[list[str]]:
    """Return a score as rows of a table.

    Args:
        score: of a part of a data set.
        data: name of the data set.
        part: stands before the names of the rows, e.g. "test"; empty where they say nothing of it.

    """
    before, rows = f"{part} " * bool(part), []
    if by_loss(data, [score]):
        rows.append([f"{before}loss", loss_text(score.loss, data)])
    if score.correct is not None:
        rows.append([f"{before}accuracy", f"{score.accuracy:.2%} ({score.correct:,} of {score.total:,})"])
    return rows
