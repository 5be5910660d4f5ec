"""Where the bytes of a ticket's file are, as a table and as plain values."""

from typing import Any

from supermask.report import table
from supermask.ticket.file import Sizes

HEADER = ("bytes of", "bytes", "n H(density)/8", "ratio", "treatment")
"""Of `bytes_rows`."""


def bytes_table(found: Sizes) -> str:
    """Return `bytes_rows` as a Markdown table."""
    return table(HEADER, bytes_rows(found))


def bytes_rows(found: Sizes) -> list[list[str]]:
    """Return a row for each part of the file: its bytes, the entropy bound of a mask, and their ratio."""
    rows = [["prefix and checksums", f"{found.prefix:,}", "", "", ""], ["header", f"{found.header:,}", "", "", ""]]
    rows += [
        [name, f"{layer.mask:,}", *_held_against(layer.mask, layer.bound), _or_nothing(layer.treatment)]
        for name, layer in found.layers.items()
    ]
    masks, bound = (sum(getattr(layer, part) for layer in found.layers.values()) for part in ("mask", "bound"))
    treatments = sum(layer.treatment for layer in found.layers.values())
    rows += [
        ["all masks", f"{masks:,}", *_held_against(masks, bound), _or_nothing(treatments)],
        ["stored tensors", f"{found.learned:,}", "", "", ""],
        ["the whole file", f"{found.total:,}", "", "", ""],
    ]
    return rows


def bytes_values(found: Sizes) -> dict[str, Any]:
    """Return the same as plain values."""
    layers = {
        name: {"mask": layer.mask, "bound": round(layer.bound, 1), "treatment": layer.treatment}
        for name, layer in found.layers.items()
    }
    return {
        "prefix": found.prefix,
        "header": found.header,
        "layers": layers,
        "stored": found.learned,
        "total": found.total,
    }


def _held_against(size: int, bound: float) -> list[str]:
    # the bound is 0 where a mask keeps all or nothing
    return [f"{bound:,.0f}", f"{size / bound:.3f}" if bound else "-"]


def _or_nothing(size: int) -> str:
    return f"{size:,}" if size else "-"
