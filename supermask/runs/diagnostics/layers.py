"""What each layer of a ticket keeps, and which of its units are dead."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from supermask.deploy import narrow
from supermask.errors import SupermaskError, first_line
from supermask.graph import Cost
from supermask.report.page import Fact, Section, Table
from supermask.report.rows import Bar, rows_figure
from supermask.runs.diagnostics.context import Context
from supermask.runs.diagnostics.diagnostic import Diagnosed, Diagnostic, Size

READING, BY_LAYER = 2.0, 0.2
"""Seconds to read a network as a graph, and for each of its layers: a rough guess for a busy machine."""
SHOWN = 40
"""Most layers of the figure; the table has all."""


@dataclass(frozen=True)
class LayerFacts:
    """What a layer keeps.

    Attributes:
        shape: of its weight.
        kept: weights.
        prunable: weights.
        live: units with a live path from the input and to the output; None where that is not known.
        units: all its units.

    """

    shape: tuple[int, ...]
    kept: int
    prunable: int
    live: int | None = None
    units: int | None = None


@dataclass(frozen=True, kw_only=True)
class LayersResult(Diagnosed):
    """What the layers keep.

    Attributes:
        layers: by parameter name.
        unread: why the units are not known; empty where they are.
        before: what the network costs for an example.
        after: what it costs without its dead units.

    """

    layers: Mapping[str, LayerFacts]
    unread: str = ""
    before: Cost | None = None
    after: Cost | None = None

    @property
    def dead(self) -> tuple[int, int]:
        """Dead units, and units in all layers in which they are known."""
        known = [(layer.live, layer.units) for layer in self.layers.values() if layer.live is not None and layer.units]
        units = sum(count for _, count in known)
        return units - sum(live for live, _ in known), units


class Layers(Diagnostic[LayersResult]):
    """What each layer keeps."""

    name: ClassVar[str] = "layers"
    title: ClassVar[str] = "Layers"
    kind = LayersResult

    def sizes(self, context: Context) -> Sequence[Size]:
        """Return its one size."""
        return (Size(READING + BY_LAYER * len(context.ticket.masks)),)

    def measure(self, context: Context, size: Size, folder: Path, left: Callable[[], float]) -> LayersResult:
        """Count what is kept, and read the network as a graph."""
        layers = {
            name: LayerFacts(tuple(mask.shape), int(mask.sum()), mask.numel())
            for name, mask in context.ticket.masks.items()
        }
        if context.unbuilt:
            return LayersResult(layers=layers, unread=context.unbuilt)
        try:
            narrowed = narrow(context.network().cpu(), context.example)
        except SupermaskError as error:
            return LayersResult(layers=layers, unread=first_line(error))
        for module, (live, units) in narrowed.units.items():
            weight = f"{module}.weight" if module else "weight"
            if weight in layers:
                known = layers[weight]
                layers[weight] = LayerFacts(known.shape, known.kept, known.prunable, live, units)
        return LayersResult(layers=layers, before=narrowed.before, after=narrowed.after)

    def section(self, context: Context, result: LayersResult) -> Section:
        """Return a row for each layer."""
        rows = [_row(name, layer) for name, layer in result.layers.items()]
        kept, prunable = (sum(getattr(each, part) for each in result.layers.values()) for part in ("kept", "prunable"))
        dead, units = result.dead
        rows.append(["all", "", f"{kept:,}", f"{prunable:,}", _percent(kept, prunable), _dead(dead, units)])
        shown = dict(list(result.layers.items())[:SHOWN])
        densities = {name: 100 * each.kept / max(1, each.prunable) for name, each in shown.items()}
        ends = f"{min(densities.values()):.2f} to {max(densities.values()):.2f} %" if densities else ""
        bars = {name: {"density": Bar(density, density, density)} for name, density in densities.items()}
        return Section(
            self.title,
            _text(result, len(result.layers)),
            table=Table(["parameter", "shape", "kept", "of", "density", "dead units"], rows),
            figure=rows_figure(bars, "density (%)") if bars else None,
            alt=f"Bars of the density of each layer, from {ends}.",
            command=context.inspect if result.unread else f"{context.inspect}\n{context.narrowed}",
        )

    def facts(self, result: LayersResult) -> Sequence[Fact]:
        """Return the dead units in a line."""
        dead, units = result.dead
        empty = [name for name, layer in result.layers.items() if layer.prunable and not layer.kept]
        collapsed = [Fact("Layer collapse", f"{', '.join(empty)} keeps no weight", "no")] if empty else []
        known = f"{dead:,} of {units:,} ({100 * dead / units:.1f} %)" if units else "not known"
        return [*collapsed, Fact("Dead units", known)]


def _text(result: LayersResult, count: int) -> str:
    text = (
        "A unit, a neuron or a channel, is dead if no path of kept weights leads to it from the input, or from it to"
        " the output."
    )
    if result.unread:
        return f"{text} Here it is not known which are: {result.unread}."
    assert result.before is not None
    assert result.after is not None
    if result.dead[0]:
        text += (
            f" Without them the network has {result.after.parameters:,} of {result.before.parameters:,} parameters and"
            f" takes {result.after.multiply_adds:,} of {result.before.multiply_adds:,} multiply-adds for an image."
        )
    return text + (f"\n\nThe figure shows the first {SHOWN} of {count} layers." if count > SHOWN else "")


def _row(name: str, layer: LayerFacts) -> list[str]:
    live, units = layer.live, layer.units
    dead = _dead(None if live is None or units is None else units - live, units)
    shape = "x".join(map(str, layer.shape))
    return [name, shape, f"{layer.kept:,}", f"{layer.prunable:,}", _percent(layer.kept, layer.prunable), dead]


def _dead(dead: int | None, units: int | None) -> str:
    return "not known" if dead is None or not units else f"{dead:,} of {units:,}"


def _percent(kept: int, count: int) -> str:
    return f"{100 * kept / count:.2f} %" if count else "-"
