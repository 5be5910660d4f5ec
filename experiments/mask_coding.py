"""How many bytes masks take, coded by us and by others, over what their density alone asks for, and how fast."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from experiments.framework.experiment import Experiment, Group, Table
from experiments.measuring.mask_codes import (
    CODES,
    Case,
    Code,
    Coded,
    Mask,
    constriction_code,
    constriction_version,
    entropy_bytes,
    measured,
)
from supermask.random.stream import Stream, philox
from supermask.report.plot import colored, new_figure, save_figure
from supermask.results import Result
from supermask.runs import Job, SearchOptions, recorded, run
from supermask.runs.run_job import TICKET
from supermask.ticket import Ticket
from supermask.ticket.coding import SideInformation, make_side_information
from supermask.training import Recipe

_SHOWN = (*CODES, "constriction")
_WEIGHT = 4  # bytes of the float32 that an entry stands for


@dataclass(frozen=True, kw_only=True)
class CodesResult(Result):
    """What masks take.

    Attributes:
        entries: of all masks.
        kept: entries.
        entropy_bytes: n H(density) / 8, summed over the masks.
        constriction_version: None where the package is not installed.
        codes: by name.
        ticket_bytes: of the ticket that the masks are of, if they are of one.
        test_accuracy: of its network, a fraction.

    """

    entries: int
    kept: int
    entropy_bytes: float
    constriction_version: str | None
    codes: Mapping[str, Coded]
    ticket_bytes: int | None = None
    test_accuracy: float | None = None


@dataclass(frozen=True)
class Drawn:
    """The codes of one drawn mask.

    Attributes:
        shape: of the mask.
        density: chance that an entry is kept; in groups, the part of each group that is.
        group: entries of groups that keep as many each, 0 for none.
        seed: of the mask.

    """

    kind: ClassVar[type[Result]] = CodesResult

    shape: tuple[int, ...]
    density: float
    group: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {**asdict(self), "shape": list(self.shape)}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> CodesResult:
        """Measure; it is not stopped half way."""
        return recorded(CodesResult, path, self.config(), lambda _: _compared([Case(self._mask())]), resume=True)

    def _mask(self) -> Mask:
        numbers = np.random.Generator(philox(self.seed, "mask_coding")).random(self.shape)
        if not self.group:
            return numbers < self.density
        ranks = numbers.reshape(-1, self.group).argsort(1).argsort(1)
        return (ranks < self.density * self.group).reshape(self.shape)


@dataclass(frozen=True)
class TrainedMasks:
    """The codes of the masks that a search finds, all layers together.

    Attributes:
        job: the search.

    """

    kind: ClassVar[type[Result]] = CodesResult

    job: Job

    @property
    def name(self) -> str:
        """The seed."""
        return f"seed{self.job.seed}"

    def config(self) -> dict[str, Any]:
        """Return all that the measurement depends on."""
        return {"job": self.job.config()}

    def run(self, path: Path, *, device: str, data_folder: Path | None) -> CodesResult:
        """Search, from the checkpoint where there is one, then measure."""

        def measure(folder: Path) -> CodesResult:
            options: dict[str, Any] = {"device": device, "data_folder": data_folder}
            result = run(self.job, folder / "search", resume=True, progress=False, **options)
            path = folder / "search" / TICKET
            codes = _compared(_cases(Ticket.load(path)))
            return replace(codes, ticket_bytes=path.stat().st_size, test_accuracy=result.test.accuracy)

        return recorded(CodesResult, path, self.config(), measure, resume=True)


def _cases(ticket: Ticket) -> list[Case]:
    weights = ticket.random_weights()

    def side_information(name: str) -> SideInformation:
        words = Stream(ticket.seed, name, "scores").words(weights[name].numel())
        return lambda: make_side_information(weights[name].numpy(), words)

    return [Case(mask.numpy(), side_information(name)) for name, mask in ticket.masks.items()]


def _compared(cases: Sequence[Case]) -> CodesResult:
    seeded = any(case.side_information for case in cases)
    codes: dict[str, Code] = {name: code for name, code in CODES.items() if seeded or name != "ours, seed known"}
    if constriction_version():
        codes["constriction"] = constriction_code()
    dice = np.random.Generator(philox(0, "mask_coding compiles"))
    small = Case(dice.random((40, 40)) < 0.5, (lambda: np.ones((40, 40), np.uint16)) if seeded else None)
    for code in codes.values():
        measured([small], code)  # compiles
    return CodesResult(
        entries=sum(case.mask.size for case in cases),
        kept=sum(int(case.mask.sum()) for case in cases),
        entropy_bytes=sum(entropy_bytes(case.mask) for case in cases),
        constriction_version=constriction_version(),
        codes={name: measured(cases, code) for name, code in codes.items()},
    )


def ratio(result: CodesResult, code: str) -> float:
    """Return the bytes of a code over n H(density) / 8."""
    return result.codes[code].bytes / result.entropy_bytes


def speed(result: CodesResult, seconds: float) -> float:
    """Return the megabytes of float32 weights whose masks are coded in a second."""
    return _WEIGHT * result.entries / seconds / 1e6


def _row(results: Sequence[CodesResult]) -> list[str]:
    (result,) = results
    codes = result.codes
    ours, constriction = codes.get("ours, seed known", codes["ours"]), codes.get("constriction")
    ratios = [f"{ratio(result, code):.3f}" if code in codes else "-" for code in _SHOWN]
    speeds = [f"{speed(result, seconds):,.0f}" for seconds in (ours.encode_s, ours.decode_s)]
    other = f"{speed(result, constriction.decode_s):,.0f}" if constriction else "-"
    accuracy = "-" if result.test_accuracy is None else f"{result.test_accuracy:.2%}"
    return [accuracy, f"{result.entropy_bytes:,.0f}", *ratios, *speeds, other]


def _plot(found: Mapping[str, Sequence[CodesResult]], path: Path) -> None:
    figure, axes = new_figure(width=8, height=0.8 + 0.4 * len(found))
    rows = [result for (result,) in found.values()]
    for color, code in colored(_SHOWN):
        there = [(ratio(row, code), place) for place, row in enumerate(rows) if code in row.codes]
        if there:
            axes.plot(*zip(*there, strict=True), "o", color=color, label=code)
    axes.axvline(1, color="k", linewidth=0.8)
    axes.set(xscale="log", xlabel="bytes over n H(density) / 8", title="Coded masks")
    axes.set_yticks(range(len(rows)), list(found))
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


_SIZES = {"10,000": (100, 100), "1 million": (1000, 1000), "25 million": (5000, 5000)}


def _search(density: float, epochs: int) -> TrainedMasks:
    return TrainedMasks(
        Job(
            data="mnist",
            recipe=Recipe(epochs=epochs, batch_size=64, learning_rate=0.1, warm_up=0),
            search=SearchOptions(density=density),
        )
    )


EXPERIMENT = Experiment(
    name="mask_coding",
    title="What masks take in bytes",
    source=(
        "Drawn masks with independent entries or with 2 kept of each 4, and the masks of edge-popup on MNIST"
        " (lenet_300_100, each layer at the density, all layers together). n H(density) / 8 is what entries take that"
        " are independent and of one density; less means that the code makes use of more. Every mask is read back and"
        " compared. Times are those of one processor."
    ),
    groups=(
        *(
            Group(f"random, {label}, {density:g}", (Drawn(shape, density),))
            for label, shape in _SIZES.items()
            for density in (0.5, 0.1, 0.04, 0.001)
        ),
        Group("2 of each 4, 1 million", (Drawn((1000, 1000), 0.5, group=4),)),
        *(Group(f"edge-popup, 2 epochs, {density:g}", (_search(density, 2),)) for density in (0.5, 0.1, 0.04)),
    ),
    table=Table(
        header=("test accuracy", "n H/8 bytes", *_SHOWN, "write MB/s", "read MB/s", "constriction reads"),
        row=_row,
        note=(
            "Ours to constriction: bytes over n H(density) / 8. Ours, seed known: the signs of the weights and the"
            " first scores, which the seed regrows, help to tell the mask. Packed: a bit for each entry; zlib and lzma:"
            " the best of what those make of that. Constriction: its range coder with the mask's density, where the"
            " package is installed. MB/s: of the float32 weights that the masks stand for, ours (with the seed, where"
            " it is known) and constriction's."
        ),
    ),
    plot=_plot,
)
