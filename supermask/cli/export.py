"""`supermask export`: a ticket's network as a file that other programs run."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tyro.conf import Positional

from supermask.cli.options import TicketModel
from supermask.deploy import Exported, Narrowed, export, narrow
from supermask.deploy.formats import named_format
from supermask.errors import SupermaskError
from supermask.files import held, make_folder, relative, write_json
from supermask.report import plot_bars, table
from supermask.runs.ticket_model import check_input, check_size, described, input_shape_of, network_of
from supermask.ticket import Ticket
from supermask.versions import versions


@dataclass(frozen=True)
class Export:
    """Write a ticket's network as a file that other programs run, for any number of examples."""

    ticket: Positional[Path] = Path("network.ticket")
    """The ticket file."""

    format: Literal["onnx", "torch_export"] = "onnx"
    """onnx: network.onnx, for onnxruntime and others (needs the extra `export`); torch_export: network.pt2."""

    narrow: bool = False
    """Remove units that have no live path from the input or to the output; the results stay the same."""

    given: Path | None = None
    """Checkpoint of a ticket over given weights: a file of safetensors or of torch.save."""

    model: TicketModel = None

    input_shape: tuple[int, ...] = ()
    """Sizes of one input, e.g. 3 32 32; by default what the ticket says."""

    out: Path | None = None
    """Folder for the network, export.json and, with --narrow, units.png; by default the ticket's own folder."""

    def __call__(self) -> None:
        """Export the network."""
        how = named_format(self.format)
        ticket = Ticket.load(self.ticket)
        network = network_of(ticket, self.ticket, self.given, self.model).eval()
        example = self._example(ticket)
        check_size(ticket, self.ticket, example)
        narrowed = narrow(network, example) if self.narrow else None
        out = make_folder(self.out or self.ticket.parent)
        with held(out):
            chosen = narrowed.network if narrowed else network
            exported = export(chosen, out / f"network{how.suffix}", example=example, format=self.format)
            made = {**versions(), **{package: version(package) for package in how.packages}}
            written = self._write(out, exported, narrowed, made)
            rows = [
                ["input", "x".join(["batch", *map(str, exported.input_shape)])],
                ["bytes", f"{exported.bytes:,}"],
                ["largest difference", f"{exported.difference:.1e} of the largest output, on random inputs"],
                *(_told(narrowed) if narrowed else []),
            ]
            print(table([self.ticket.name, self.format], rows))
            print(f"In {relative(out)}: {', '.join(written)}")

    def _write(self, out: Path, exported: Exported, narrowed: Narrowed | None, made: dict[str, str]) -> list[str]:
        """Write export.json, and the plot of a narrowed network's units; return the names of all files."""
        measured = {**asdict(exported), "path": exported.path.name, "input_shape": list(exported.input_shape)}
        written = [exported.path.name, "export.json"]
        if narrowed:
            measured["narrow"] = _plain(narrowed)
            shares = {name: 100 * left / count for name, (left, count) in narrowed.units.items()}
            plot_bars(shares, out / "units.png", self.ticket.name, "layer", "units left (%)")
            written.append("units.png")
        write_json(out / "export.json", {"ticket": self.ticket.name, **measured, "versions": made})
        return written

    def _example(self, ticket: Ticket) -> Tensor:
        shape = self.input_shape or input_shape_of(ticket)
        if shape is None:
            raise SupermaskError(f"{self.ticket} does not say which inputs its network takes; give --input-shape.")
        if min(shape) < 1:
            raise SupermaskError(f"--input-shape {' '.join(map(str, shape))} has a size below 1; give sizes of images.")
        check_input(shape)
        # two examples, because torch.export takes a size of 1 for fixed; a seed, so that reports can be repeated
        draws = torch.Generator().manual_seed(0)
        named = described(ticket)
        if named is not None and named.vocabulary is not None:
            return torch.randint(named.vocabulary, (2, *shape), generator=draws)
        return torch.randn(2, *shape, generator=draws)


def _told(narrowed: Narrowed) -> list[list[str]]:
    before, after = narrowed.before, narrowed.after
    units = sum(count for _, count in narrowed.units.values())
    return [
        ["units removed", f"{narrowed.removed:,} of {units:,}"],
        ["parameters", f"{after.parameters:,} of {before.parameters:,}"],
        ["multiply-adds", f"{after.multiply_adds:,} of {before.multiply_adds:,}"],
    ]


def _plain(narrowed: Narrowed) -> dict[str, Any]:
    units = {name: {"left": left, "of": count} for name, (left, count) in narrowed.units.items()}
    return {"units": units, "before": asdict(narrowed.before), "after": asdict(narrowed.after)}
