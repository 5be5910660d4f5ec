"""How large a ticket's file is, and where its bytes are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from supermask.report.page import Fact, Section, Table
from supermask.runs.diagnostics.context import Context
from supermask.runs.diagnostics.diagnostic import Diagnosed, Diagnostic, Size
from supermask.runs.ticket_bytes import HEADER, bytes_rows
from supermask.ticket.file import LayerSize, Sizes, sizes

RATE = 1e-7
"""Seconds to decode the mask of one weight, about: ten million a second."""


@dataclass(frozen=True, kw_only=True)
class BytesResult(Diagnosed):
    """Where the bytes of a file are; the attributes are those of `supermask.ticket.file.Sizes`."""

    prefix: int
    header: int
    layers: Mapping[str, LayerSize]
    learned: int
    total: int
    prunable: int

    @property
    def bound(self) -> float:
        """The entropy bound of all masks, in bytes."""
        return sum(layer.bound for layer in self.layers.values())


class FileBytes(Diagnostic[BytesResult]):
    """Where the bytes of a ticket's file are."""

    name: ClassVar[str] = "bytes"
    title: ClassVar[str] = "Its file"
    kind = BytesResult

    def sizes(self, context: Context) -> Sequence[Size]:
        """Return its one size."""
        return (Size(0.1 + RATE * context.ticket.prunable),)

    def measure(self, context: Context, size: Size, folder: Path, left: Callable[[], float]) -> BytesResult:
        """Decode the file and count its bytes."""
        found = sizes(context.filed.path.read_bytes())
        return BytesResult(**vars(found), prunable=context.ticket.prunable)

    def section(self, context: Context, result: BytesResult) -> Section:
        """Return the table of the bytes."""
        found = Sizes(result.prefix, result.header, result.layers, result.learned, result.total)
        text = (
            f"The file has {result.total:,} bytes. The same weights as float32 numbers would take"
            f" {4 * result.prunable:,}. A code that knows only the density of a mask of n entries takes n H(density)"
            " / 8 bytes at least. A ratio below 1 is what the code gains from what it knows besides: the random"
            " weights, which the seed regrows, and what was kept in the same row and column."
        )
        return Section(self.title, text, table=Table(HEADER, bytes_rows(found)), command=context.inspect)

    def facts(self, result: BytesResult) -> Sequence[Fact]:
        """Return the bytes in a line."""
        less = 4 * result.prunable / result.total
        return (Fact("File", f"{result.total:,} bytes, {less:,.0f} times less than the weights as float32"),)
