"""Otsuka et al. 2025 measured: an attention layer in a wider random one, by its key and value width."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import torch
from torch import nn

from experiments.framework.experiment import Experiment, Group, Published, Table
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import recorded
from theory.attention import NearSequences, TokenBall, construct_transformer
from theory.attention.certificate import proven_tokens

UNITS, HEADS, TOKENS, SEQUENCES = 16, 2, 32, 200
WIDTHS, SEEDS = (20, 24, 28), range(3)
NEAR = 0.001


@dataclass(frozen=True, kw_only=True)
class AttentionResult(Result):
    """An attention layer in a random one.

    Attributes:
        upper: over all sequences of tokens of the radius.
        lower: the largest difference found there.
        measured: the largest of a token of the sequences.
        at: the bound at the sequences.
        near: within `NEAR` of them.
        largest_error: of a number of the two products of a head.
        kept: random weights that stay.
        prunable: random weights.
        bytes: of the ticket.
        seconds: of the construction, its certificate and the search from below.

    """

    upper: float
    lower: float
    measured: float
    at: float
    near: float
    largest_error: float
    kept: int
    prunable: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class RandomAttention:
    """A random target attention, with biases, built in a random network of one width.

    Attributes:
        width: hidden units per input, of keys and of values.
        seed: of the target, of the random network and of the sequences.

    """

    kind: ClassVar[type[Result]] = AttentionResult

    width: int
    seed: int

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        sizes = {"units": UNITS, "heads": HEADS, "tokens": TOKENS, "sequences": SEQUENCES, "near": NEAR}
        return {**asdict(self), **sizes}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> AttentionResult:
        """Build and certify; it takes seconds."""
        return recorded(AttentionResult, path, self.config(), lambda _: self._measure(), resume=True)

    def _measure(self) -> AttentionResult:
        generator = torch.Generator().manual_seed(self.seed)
        target = nn.MultiheadAttention(UNITS, HEADS, batch_first=True, dtype=torch.float64)
        for parameter in target.parameters():
            parameter.data = torch.randn(parameter.shape, dtype=torch.float64, generator=generator) / UNITS**0.5
        tokens = torch.randn(SEQUENCES, TOKENS, UNITS, dtype=torch.float64, generator=generator)
        tokens *= UNITS**0.5 / tokens.norm(dim=-1, keepdim=True)  # as a layer normalisation makes them
        began = monotonic()
        # an epsilon that no width reaches, so that every subset is the best there is
        built = construct_transformer(
            target, 1e-12, domain=TokenBall(UNITS**0.5), width=self.width, seed=self.seed, progress=False
        )
        seconds = monotonic() - began
        with torch.no_grad():
            apart = built.target(tokens, tokens, tokens)[0] - built.network(tokens)
        return AttentionResult(
            upper=built.certificate.upper,
            lower=built.certificate.lower,
            measured=float(apart.norm(dim=-1).max()),
            at=proven_tokens(built.parts, built.effective, NearSequences(tokens)),
            near=proven_tokens(built.parts, built.effective, NearSequences(tokens, NEAR)),
            largest_error=max(float(errors.max()) for errors in built.errors),
            kept=built.ticket.kept,
            prunable=built.ticket.prunable,
            bytes=built.ticket.size,
            seconds=round(seconds, 1),
        )


def _row(results: Sequence[AttentionResult]) -> list[str]:
    columns = ("largest_error", "measured", "at", "near", "lower", "upper")
    worst = {name: sorted(getattr(result, name) for result in results) for name in columns}
    found = [f"{values[len(values) // 2]:.1e} ({values[-1]:.1e})" for values in worst.values()]
    return [*found, f"{results[0].kept:,} of {results[0].prunable:,}", f"{results[0].bytes:,}"]


def _plot(found: Mapping[str, Sequence[AttentionResult]], path: Path) -> None:
    """Draw every seed's errors and bounds by the width."""
    figure, axes = new_figure()
    lines = {"largest of 200 sequences": "measured", "largest found in the ball": "lower", "certified": "upper"}
    for color, (label, name) in colored(lines.items()):
        points = [(each.config["width"], getattr(each, name)) for results in found.values() for each in results]
        axes.plot(*zip(*points, strict=True), color=color, linestyle="none", marker="o", markersize=3, label=label)
    axes.set(yscale="log", xlabel="key and value units per input", ylabel="l2 error of a token")
    axes.set_title("An attention layer in a wider random one")
    axes.legend(frameon=False)
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="attention_width",
    title="An attention layer in a wider random one, by key and value width",
    source=(
        "Otsuka et al. 2025 prove that a random multi-head attention holds a target's where keys and values are wider"
        " by a factor logarithmic in 1/epsilon, and try it on a toy of two inputs. Here a target of"
        f" {UNITS} numbers a token and {HEADS} heads, Gaussian weights and biases, in one random attention of the same"
        " heads and no more layers, each product met by the best subset sums there are. Certified over all sequences of"
        f" tokens of norm {UNITS**0.5:g}, of which {SEQUENCES} of {TOKENS} random tokens are run."
    ),
    groups=tuple(
        Group(
            f"{width} per input",
            tuple(RandomAttention(width, seed) for seed in SEEDS),
            Published("O(log 1/eps)", "Otsuka et al. 2025", "a theorem, no table") if width == WIDTHS[0] else None,
        )
        for width in WIDTHS
    ),
    table=Table(
        header=(
            *("largest weight error", "measured", "upper, at them", f"upper, within {NEAR:g}"),
            *("lower, ball", "upper, ball", "kept", "bytes"),
        ),
        row=_row,
        note=(
            "The median of the seeds, and the worst in brackets. Largest weight error: of the products of queries and"
            " keys, and of outputs and values. Measured: the largest l2 error of a token of the sequences; upper: the"
            f" bound at them, within {NEAR:g} of each of their tokens, and over all sequences of the ball; lower: the"
            " largest that gradient ascent found in the ball. Kept, bytes: of seed 0."
        ),
    ),
    plot=_plot,
)
