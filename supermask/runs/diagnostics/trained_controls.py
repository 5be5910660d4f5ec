"""A ticket and its controls trained, beside dense networks that are trained alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from supermask.judge import judge
from supermask.judge.result import ControlResult
from supermask.report import mean
from supermask.report.page import Fact, Section, Table
from supermask.report.rows import rows_figure
from supermask.runs.diagnostics.accuracies import TICKET, difference, error_bar, shortest, words
from supermask.runs.diagnostics.context import EVALUATIONS, Context
from supermask.runs.diagnostics.diagnostic import Diagnosed, OfNetwork, Size
from supermask.runs.run_controls import run_controls

CONTROLS = ("reinitialised", "shuffled_in_layers", "inverted", "random_erk")
"""Those that are trained, the inverted one where there are scores; `supermask compare --ticket` trains all."""
SEEDS = (3, 2, 1)
LONGEST, SHORTEST = 10, 50
"""Epochs of the longest training and optimizer steps of the shortest; those between are halves of one another."""
DENSE = ("dense", "small_dense")


@dataclass(frozen=True, kw_only=True)
class TrainedResult(Diagnosed):
    """Accuracies of trained networks, and verdicts.

    Attributes:
        accuracies: of each network after its training, a fraction of the test images for each seed.
        parameters: that each network trains.
        claims: plain values of each verdict, as `supermask.judge.Verdict.values` returns them, and what it rests on as
            "short".
        images: of the test set.
        seeds: that were run.
        asked: how many seeds were to be run.
        steps: optimizer steps of each training.
        epochs: the same in passes over the training examples.
        recipe: in a line.

    """

    accuracies: Mapping[str, tuple[float, ...]]
    parameters: Mapping[str, int]
    claims: tuple[Mapping[str, Any], ...]
    images: int
    seeds: tuple[int, ...]
    asked: int
    steps: int
    epochs: float
    recipe: str


class TrainedControls(OfNetwork[TrainedResult]):
    """The ticket beside its controls and dense networks, all of them trained."""

    name: ClassVar[str] = "trained_controls"
    title: ClassVar[str] = "Trained controls"
    share: ClassVar[float] = 0.6  # what is left is for copies of the ticket, which need fewer trainings
    kind = TrainedResult

    def sizes(self, context: Context) -> Sequence[Size]:
        """Return sizes of several seeds and steps."""
        networks = len(_names(context)) + 1 + len(DENSE)
        held, test = len(context.data.validation), len(context.test)

        def size(seeds: int, steps: int) -> Size:
            one = context.speed.training(steps, EVALUATIONS + 1, held, test)
            return Size(seeds * networks * one, {"seeds": seeds, "steps": steps})

        # more seeds first: without several no claim is decided, however long the training
        return [size(seeds, steps) for seeds in SEEDS for steps in lengths(context)]

    def measure(self, context: Context, size: Size, folder: Path, left: Callable[[], float]) -> TrainedResult:
        """Run the controls of each seed, as long as the time suffices for another one like the slowest."""
        asked, steps = size.options["seeds"], size.options["steps"]
        runs: list[Mapping[str, ControlResult]] = []
        slowest = 0.0
        while len(runs) < asked and (not runs or slowest <= left()):
            begun = time.monotonic()
            runs.append(self._run(context, steps, context.seed + len(runs), folder))
            slowest = max(slowest, time.monotonic() - begun)
        judged = judge(runs)
        found = judged.results
        # a claim about untrained controls stands in a section of its own, with more of them
        claims = [each for each in judged.verdicts if each.state == "trained" or each.claim == "matching"]
        return TrainedResult(
            accuracies={name: tuple(run.test.accuracy for run in each) for name, each in found.items()},
            parameters={name: each[0].parameters for name, each in found.items()},
            claims=tuple({**verdict.values(), "short": shortest(verdict)} for verdict in claims),
            images=found[TICKET][0].test.total,
            seeds=tuple(range(context.seed, context.seed + len(runs))),
            asked=asked,
            steps=steps,
            epochs=steps / context.batches().per_epoch,
            recipe=context.recipe(steps).settle().describe(),
        )

    def section(self, context: Context, result: TrainedResult) -> Section:
        """Return a row for each network."""
        own = result.accuracies[TICKET]
        rows = []
        for name, found in result.accuracies.items():
            against = "" if name == TICKET else f"{difference(own, found, result.images).text()} points"
            parameters = f"{result.parameters[name]:,}"
            rows.append([words(name), mean(found).percent(), against, parameters, str(len(found))])
        bars = {words(name): {"error": error_bar(found)} for name, found in result.accuracies.items()}
        return Section(
            self.title,
            _text(result, lengths(context)[0]),
            [_line(claim) for claim in result.claims],
            Table(["network", "test accuracy", "ticket - it", "parameters", "n"], rows),
            rows_figure(bars, "test error after training (%)"),
            f"Bars of test errors after training; the accuracy of the ticket is {mean(own).percent()}, that of the"
            f" dense network {mean(result.accuracies['dense']).percent()}.",
            self._command(context, result),
        )

    def facts(self, result: TrainedResult) -> Sequence[Fact]:
        """Return a line for each verdict."""
        dense = mean(result.accuracies["dense"]).percent()
        seeds = f"{result.steps:,} steps ({result.epochs:.1f} epochs), n = {_seeds(result)}"
        return (Fact("Dense network", f"{dense} after {seeds}"), *(_fact(result, claim) for claim in result.claims))

    def _run(self, context: Context, steps: int, seed: int, folder: Path) -> dict[str, ControlResult]:
        return run_controls(
            context.filed.path,
            out=folder / "runs",
            recipe=context.recipe(steps),
            seed=seed,
            controls=_names(context),
            data=context.data.name,
            model=context.filed.model,
            loss=context.loss,
            device=str(context.device),
            data_folder=context.data_folder,
            progress=context.progress,
        )

    def _command(self, context: Context, result: TrainedResult) -> str:
        recipe = context.recipe(result.steps)
        options = {
            "--iterations": recipe.iterations,
            "--batch-size": recipe.batch_size,
            "--warm-up": recipe.warm_up,
            "--evaluate-every": recipe.evaluate_every,
            "--best": recipe.best,
            "--seeds": len(result.seeds),
            "--seed": context.seed,
        }
        words = [word for name, value in options.items() for word in (name, str(value))]
        return context.command("compare", *words, before="--ticket")


def _names(context: Context) -> list[str]:
    return [name for name in CONTROLS if name != "inverted" or context.filed.scores is not None]


def lengths(context: Context) -> list[int]:
    """Return the lengths of a training in optimizer steps, the longest first."""
    steps = LONGEST * context.batches().per_epoch
    found = [steps]
    while steps // 2 >= SHORTEST:
        steps //= 2
        found.append(steps)
    return found


def _text(result: TrainedResult, longest: int) -> str:
    seeds = (
        f"Means are over {_seeds(result)}, with 95 % intervals (Student), and differences are paired by seed."
        if len(result.seeds) > 1
        else "The numbers are those of one seed, which has no interval and decides nothing."
    )
    text = (
        "The ticket, its controls, the dense network and a dense one with about as many parameters as the ticket keeps"
        f" are trained alike for {result.steps:,} steps, {result.epochs:.1f} epochs: {result.recipe}. The validation"
        f" part chooses the best step; the test set is read at the end. {seeds}"
    )
    if result.steps < longest:
        text += (
            f"\n\nThis is a short training: the longest here is of {longest:,} steps, for which there was no time."
            " Verdicts on fully trained networks may differ."
        )
    if len(result.seeds) < result.asked:
        text += f"\n\nThe time was up after {_seeds(result)}; {result.asked} were to be run."
    elif len(result.seeds) < SEEDS[0]:
        text += f"\n\nThere was time for {_seeds(result)}; with more minutes there are {SEEDS[0]}."
    return text + "\n\nThe command below trains more controls than these."


def _fact(result: TrainedResult, claim: Mapping[str, Any]) -> Fact:
    """Return a verdict in a line, with the length of the training: that of a short one may be another."""
    trained, text = claim["state"] == "trained", str(claim["short"])
    name = f"{claim['claim']}, {claim['state']}" + (f" for {result.steps:,} steps" if trained else "")
    return Fact(name.capitalize(), text if trained else f"{text}; dense was trained", str(claim["holds"]))


def _line(claim: Mapping[str, Any]) -> str:
    seeds = f"{claim['n']} seed{'s' * (claim['n'] != 1)}"
    reason = words(str(claim["reason"]))
    claimed = f"{claim['claim']}, {claim['state']}".capitalize()
    return f"{claimed}: {claim['holds']} ({reason}; {seeds}; {claim['source']})"


def _seeds(result: TrainedResult) -> str:
    return f"{len(result.seeds)} seed{'s' * (len(result.seeds) != 1)}"
