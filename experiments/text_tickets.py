"""Tickets in a small transformer: text, attention, pretrained weights, and masks carried from one task to another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from experiments.framework.experiment import Experiment, Group, Published, Table
from experiments.measuring.text_training import (
    CONTEXT,
    DENSITIES,
    LENGTHS,
    PARTS,
    PRETRAINED,
    SEARCHED,
    TRAINED,
    TextResult,
    Tickets,
    Way,
)
from supermask.report import mean
from supermask.report.plot import COLORS, STYLES, colored, new_figures, save_figure

SEEDS = (0, 1, 2)
SPARSE: tuple[Way, ...] = (
    "magnitude, one-shot",
    "magnitude, iterative",
    "shuffled in layers",
    "random",
    "reset",
    "reinitialised",
    "strong",
)

Found = Mapping[str, Sequence[TextResult]]
CELLS = (("characters", "characters"), ("kinds", "kinds"), ("characters", "kinds"), ("kinds", "characters"))
"""The columns: the task of the ticket, and the one that it is tested on."""
OWN, CARRIED = CELLS[:2], CELLS[2:]


def _label(way: Way, density: float) -> str:
    return way if way.startswith("dense") else f"{way}, {density:g}"


def _row(results: Sequence[TextResult]) -> list[str]:
    cells = [mean([result.accuracies[source][target] for result in results]).percent() for source, target in CELLS]
    return [*cells, f"{mean([result.seconds for result in results]).value:.0f}"]


def _accuracy(results: Sequence[TextResult], cells: Sequence[tuple[str, str]]) -> float:
    """Return the mean accuracy over cells and seeds, in per cent."""
    return 100 * fmean(result.accuracies[source][target] for result in results for source, target in cells)


def _plot(found: Found, path: Path) -> None:
    figure, panels = new_figures(3, 13.0)
    titles = {"the task of the ticket, mean of two": OWN, "characters to kinds": CARRIED[:1]}
    titles |= {"kinds to characters": CARRIED[1:]}
    for panel, (title, cells) in zip(panels, titles.items(), strict=True):
        for label, style in {"dense": "--", "dense, not pretrained": ":"}.items():
            if results := found.get(label):
                panel.axhline(_accuracy(results, cells), color="k", linestyle=style, linewidth=1, label=label)
        for number, (color, way) in enumerate(colored(SPARSE)):
            shown = {density: results for density in DENSITIES if (results := found.get(_label(way, density)))}
            values = [_accuracy(results, cells) for results in shown.values()]
            (line,) = panel.plot([*shown], values, ".-", color=color, label=way)
            line.set(linestyle=STYLES[number // len(COLORS)])
        panel.set(xscale="log", xlabel="density", title=title)
        panel.set_xticks(DENSITIES, [f"{density:g}" for density in DENSITIES])
        panel.minorticks_off()
    panels[0].set_ylabel("test accuracy (%)")
    panels[-1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _conclusion(found: Found) -> str:
    dense = found.get("dense")
    if not dense:
        return "Without the dense row nothing can be compared."
    said = []
    for density in DENSITIES:
        rows = {way: results for way in SPARSE if (results := found.get(_label(way, density)))}
        gains = {
            way: " / ".join(f"{_accuracy(results, cells) - _accuracy(dense, cells):+.1f}" for cells in (OWN, CARRIED))
            for way, results in rows.items()
        }
        if gains:
            said.append(f"at density {density:g} {', '.join(f'{way} {gain}' for way, gain in gains.items())}")
    compared = (
        "Points of accuracy above the dense pretrained network on the task of the ticket / on the other one, means of"
        f" two tasks: {'; '.join(said)}."
    )
    return " ".join([compared, *_of_pretraining(found), *_of_parts(found), *_of_keys(found)])


def _of_pretraining(found: Found) -> list[str]:
    """Return a sentence on what the other task's pretraining is worth."""
    dense, scratch = found.get("dense"), found.get("dense, not pretrained")
    if not dense or not scratch:
        return []
    gains = [
        f"{_accuracy(dense, [cell]) - _accuracy(scratch, [cell]):+.1f} points from {' to '.join(cell)}"
        for cell in CARRIED
    ]
    return [f"Pretrained on the other task a dense network is {' and '.join(gains)} from one that was not pretrained."]


def _of_parts(found: Found) -> list[str]:
    """Return a sentence on which parts of the network the largest pretrained weights are in."""
    results = found.get(_label("magnitude, one-shot", 0.3))
    if not results:
        return []
    shares = {part: fmean(each[part] for result in results for each in result.parts.values()) for part in PARTS}
    return [
        "Of the largest 30 % of the pretrained weights, one ranking over all, the parts keep"
        f" {', '.join(f'{share:.0%} ({part})' for part, share in shares.items())}."
    ]


def _of_keys(found: Found) -> list[str]:
    """Return a sentence on the scale of queries and keys."""
    wide, narrow = found.get(_label("strong", 0.5)), found.get(_label("strong, narrow keys", 0.5))
    if not wide or not narrow:
        return []
    gain = _accuracy(wide, OWN) - _accuracy(narrow, OWN)
    return [f"With n^(1/4) on queries and keys a strong ticket of density 0.5 is {gain:+.1f} points from one without."]


_CHEN = "Chen, Frankle, Chang, Liu, Zhang, Wang & Carbin 2020"
_SAID: Mapping[str, Published] = {
    "magnitude, one-shot, 0.3": Published("between", _CHEN, "BERT; as summarised: between iterative and random masks"),
    "magnitude, iterative, 0.3": Published(
        "-0.5 to -2.6 carried", _CHEN, "BERT; as summarised: the mask of language modelling, from a task's own mask"
    ),
    "random, 0.3": Published(
        "-15 to -21", _CHEN, "BERT; as summarised: points of accuracy, random masks and new weights"
    ),
    "reinitialised, 0.3": Published(
        "-15 to -21", _CHEN, "BERT; as summarised: points of accuracy, random masks and new weights"
    ),
}


def _group(way: Way, density: float) -> Group:
    label = _label(way, density)
    return Group(label, tuple(Tickets(way, density, seed) for seed in SEEDS), _SAID.get(label))


EXPERIMENT = Experiment(
    name="text_tickets",
    title="Tickets of a small transformer on two tasks of text, own and carried",
    source=(
        f"{_CHEN} (BERT) and Otsuka et al. 2025 (n^(1/4) on queries and keys), in a setting that fits a CPU and is much"
        f" shortened: two blocks, 64 numbers at each position, {CONTEXT} characters, batch {TRAINED.batch_size}, Adam."
        " Characters: the next character of tiny Shakespeare. Kinds: whether a passage of source text is of docstrings,"
        f" Python, stubs or headers. Each task pretrains a network for {LENGTHS.pretraining:,} steps at"
        f" {PRETRAINED.learning_rate:g}. Its weights are masked over queries, keys, values, outputs, MLP and embeddings"
        " (the authors' code leaves embeddings whole) by one ranking of magnitudes, and every network is trained for"
        f" {LENGTHS.tuning} steps at {TRAINED.learning_rate:g} from there; the head is whole, and new on the other"
        " task. Iterative: a round for each density, from the pretrained weights each time. Random and shuffled masks"
        " are over pretrained weights; reset and reinitialised are the one-shot masks over the first and over new"
        " random weights, trained no longer than the others. Strong: edge-popup over random signed constants, head"
        f" included, {LENGTHS.search} steps at {SEARCHED.learning_rate:g}; on the other task its trunk stays as it is,"
        " and a whole head alone is trained."
    ),
    groups=(
        _group("dense", 1.0),
        _group("dense, not pretrained", 1.0),
        *(_group(way, density) for density in DENSITIES for way in SPARSE),
        _group("strong, narrow keys", 0.5),
    ),
    table=Table(
        header=("characters", "kinds", "to kinds", "to characters", "seconds"),
        row=_row,
        note=(
            "Test accuracy after the last step on the task that pretrained the network or was searched on, then of"
            " characters carried to kinds and back: mean and 95 % interval (Student's t) over n seeds, of"
            f" {LENGTHS.test:,} windows. Seconds: mean of all trainings of a row and seed but the pretraining, on a"
            " machine that did other work."
        ),
    ),
    plot=_plot,
    conclusion=_conclusion,
)
