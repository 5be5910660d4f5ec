"""A trained transformer over characters in one masked random network, its logits certified."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.characters import DENSE
from experiments.framework.experiment import Experiment, Group, Table
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import Job, build_network, load_data, recorded, run
from theory.attention import NearSequences, TokenBall, construct_transformer
from theory.attention.certificate import proven_tokens
from theory.attention.near import bound_near

STEPS, SEEDS = 300, (0,)
EPSILONS = (0.01, 0.0001)
RADII = (0.0, 1e-6, 1e-4)
CERTIFIED, TESTED = 16, 128
"""Windows of the test set that the certificate is for, and on which the loss is taken."""


@dataclass(frozen=True, kw_only=True)
class CharactersResult(Result):
    """A transformer in a random one.

    Attributes:
        target_loss: of the target on test windows, nats per character.
        loss: of the ticket.
        disagreements: characters for which the two predict another one.
        predicted: characters.
        measured: the largest difference of a logit on the certified windows.
        certified: the bound of a logit there, by how far tokens may be from those of the embedding.
        measured_everywhere: the largest difference of a logit on all tested windows.
        everywhere: bound of the l2 difference over all sequences of characters.
        largest_error: of a number of the maps.
        kept: random weights that stay.
        prunable: random weights.
        parameters: of the target.
        bytes: of the ticket.
        width: hidden units per input of the widest map.
        seconds: of the construction.

    """

    target_loss: float
    loss: float
    disagreements: int
    predicted: int
    measured: float
    certified: Mapping[str, float]
    measured_everywhere: float
    everywhere: float
    largest_error: float
    kept: int
    prunable: int
    parameters: int
    bytes: int
    width: int
    seconds: float


@dataclass(frozen=True)
class BuiltCharacters:
    """The character transformer, trained here, built for one epsilon.

    Attributes:
        epsilon: asked for, of the l2 difference of a character's logits on the certified windows.
        seed: of the training and of the random network.

    """

    kind: ClassVar[type[Result]] = CharactersResult

    epsilon: float
    seed: int

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    @property
    def job(self) -> Job:
        """The training of the target."""
        recipe = replace(DENSE.recipe, iterations=STEPS, evaluate_every=STEPS // 3)
        return replace(DENSE, seed=self.seed, recipe=recipe)

    def config(self) -> dict[str, Any]:
        """Return all that the run depends on."""
        sizes = {"certified": CERTIFIED, "tested": TESTED, "radii": list(RADII)}
        return {**asdict(self), **sizes, "target": self.job.config()}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> CharactersResult:
        """Build and certify; the target is trained once for all."""

        def measure(_: Path) -> CharactersResult:
            folder = path.parent / "stages" / self.name
            run(self.job, folder, data_folder=data_folder, resume=True, progress=False)
            data_set = load_data(self.job, data_folder)
            target = build_network(self.job, data_set)
            target.load_state_dict(safetensors.torch.load_file(folder / "network.safetensors"))
            test = data_set.test()
            return self._measure(target, test.images[:TESTED].long(), test.labels[:TESTED].long())

        return recorded(CharactersResult, path, self.config(), measure, resume=True)

    def _measure(self, target: nn.Module, ids: Tensor, labels: Tensor) -> CharactersResult:
        windows = ids[:CERTIFIED]
        began = monotonic()
        built = construct_transformer(
            target, self.epsilon, domain=NearSequences(windows), seed=self.seed, progress=False
        )
        seconds = monotonic() - began
        wanted, found = _logits(built.target, ids), _logits(built.network, ids)
        apart = (wanted - found).abs()
        near = {
            f"{radius:g}": bound_near(built.parts, built.effective, NearSequences(windows, radius)).entry
            for radius in RADII
        }
        return CharactersResult(
            target_loss=_loss(wanted, labels),
            loss=_loss(found, labels),
            disagreements=int((wanted.argmax(-1) != found.argmax(-1)).sum()),
            predicted=labels.numel(),
            measured=float(apart[:CERTIFIED].max()),
            certified=near,
            measured_everywhere=float(apart.max()),
            everywhere=proven_tokens(built.parts, built.effective, TokenBall()),
            largest_error=max(float(errors.max()) for errors in built.errors),
            kept=built.ticket.kept,
            prunable=built.ticket.prunable,
            parameters=sum(parameter.numel() for parameter in target.parameters()),
            bytes=built.ticket.size,
            width=max(built.widths),
            seconds=round(seconds, 1),
        )


@torch.no_grad()
def _logits(network: nn.Module, ids: Tensor) -> Tensor:
    return torch.cat([network(part) for part in ids.split(8)])


def _loss(logits: Tensor, labels: Tensor) -> float:
    return float(cross_entropy(logits.flatten(0, 1), labels.flatten()))


def _row(results: Sequence[CharactersResult]) -> list[str]:
    (result,) = results
    return [
        f"{result.target_loss:.6f}",
        f"{result.loss:.6f}",
        f"{result.disagreements:,} of {result.predicted:,}",
        f"{result.measured_everywhere:.1e}",
        f"{result.measured:.1e}",
        *(f"{result.certified[f'{radius:g}']:.1e}" for radius in RADII),
        f"{result.everywhere:.1e}",
        f"{result.kept / result.parameters:.1f}",
        f"{result.bytes:,}",
        f"{result.bytes / (4 * result.parameters):.2f}",
    ]


def _plot(found: Mapping[str, Sequence[CharactersResult]], path: Path) -> None:
    """Draw the certified error of a logit by the radius, one line for each epsilon."""
    figure, axes = new_figure()
    for color, (label, results) in colored(found.items()):
        (result,) = results
        radii = [radius for radius in RADII if radius]
        axes.plot(
            radii, [result.certified[f"{r:g}"] for r in radii], color=color, marker="o", markersize=3, label=label
        )
        axes.axhline(result.measured, color=color, linestyle=":", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="distance from the embedded characters", ylabel="error of a logit")
    axes.set_title("A character transformer in a random one: certified (lines), measured (dotted)")
    axes.legend(frameon=False)
    save_figure(figure, path)


EXPERIMENT = Experiment(
    name="built_characters",
    title="A trained transformer over characters as one masked random network",
    source=(
        f"Our own. The dense network of `characters` (two blocks, 64 numbers a position), trained for {STEPS} steps"
        " on tiny Shakespeare. All its linear maps, embeddings too, are met by diamonds in one random transformer of"
        " wider heads; gains and biases of normalisations are folded into the maps behind them, so that nothing in the"
        f" network is learned. Epsilon is for the l2 difference of a character's logits on the first {CERTIFIED}"
        " windows of 64 characters of the test text."
    ),
    groups=tuple(
        Group(f"epsilon {epsilon:g}", tuple(BuiltCharacters(epsilon, seed) for seed in SEEDS)) for epsilon in EPSILONS
    ),
    table=Table(
        header=(
            *("target's loss", "loss", "disagree", f"measured on {TESTED}", f"measured on {CERTIFIED}"),
            *(f"certified, within {radius:g}" for radius in RADII),
            *("all sequences (l2)", "kept", "bytes", "times float32"),
        ),
        row=_row,
        note=(
            f"Loss: nats per character on the first {TESTED} windows of the test text, of target and ticket."
            " Disagree: characters for which they predict another next one. Measured: the largest difference of a"
            f" logit; certified: its bound on the {CERTIFIED} windows, where tokens are those of the embedding or"
            " within so far (l2) of them. All sequences: the bound of the l2 difference over every sequence of ids; it"
            " is finite because normalisations are, and says nothing more. Kept: per parameter of the target."
        ),
    ),
    plot=_plot,
)
