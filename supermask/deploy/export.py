"""Writing a network in a format that other programs run, and running what was written to see that it is the same."""

import inspect
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supermask.data.batch import arguments, mapped, tensors_of
from supermask.deploy.formats import Format, Run, named_format
from supermask.errors import SupermaskError
from supermask.files import write_whole
from supermask.graph.program import first_line, program_of, quietly, tensors_in
from supermask.parameters.copies import copy_of

TOLERANCE = 1e-6
"""Largest difference of an output from the network's, over the largest output of the network."""
OF_ROUNDING = 4
"""The same for networks that float32 computes less exactly: this many times the network's own rounding error."""
BATCHES = (1, 3, 16)
"""Numbers of examples that are run to see it, none of them that of the export."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how well what it computes agrees with the network.

    Attributes:
        path: of the file.
        format: a name in `FORMATS`.
        bytes: of the file.
        input_shape: of the (first) input, without the batch, which may have any size.
        difference: largest difference of an output from the network's on random inputs, over the network's largest.
        rounding: that of the network from itself in float64; 0 where it does not run in float64.
        allowed: what the difference was held to: 1e-6, or four times the rounding if that is more.

    """

    path: Path
    format: str
    bytes: int
    input_shape: tuple[int, ...]
    difference: float
    rounding: float
    allowed: float


def export(model: nn.Module, path: str | Path, *, example: Any, format: str = "onnx") -> Exported:
    """Write a network as one file, for any number of examples, after running what will be in it.

    The bytes are decoded again and run, ONNX by onnxruntime, on random inputs, 20 in batches of 1, 3 and 16. Sums are
    taken in another order there, so outputs differ in their last bits; how far they may is said under `Exported`.

    Args:
        model: plain, e.g. of `ticket.apply(model)` or `search.baked()`, on any device; it is left as it
            was, and written as it is in evaluation mode.
        path: of the file; by convention `.onnx` or `.pt2`.
        example: an input, e.g. float32 (2, C, H, W), of two examples or more; a tuple of several inputs, or a
            dictionary of them by name. Only their first dimension may change. Integers are drawn from its own.
        format: "onnx" (through `torch.onnx.export`; a lone input is called "input", several are called as the forward
            pass calls them) or "torch_export" (for `torch.export.load`).

    Raises:
        SupermaskError: the format is unknown or its packages are missing; the network cannot be written; what was
            written does not run or gives other numbers; or the folder cannot be written.

    """
    how = named_format(format)
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in tensors_of(example)}
    if len(lengths) != 1 or min(lengths) < 2:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_of(example))
        raise SupermaskError(f"The example has shape {shapes or 'none'}; give two examples or more, of every input.")
    network = copy_of(model).cpu().eval().requires_grad_(False)
    example = mapped(example, lambda tensor: tensor.detach().cpu())
    data = _encoded(network, example, format, how)
    inputs = [_random(example, count) for count in BATCHES]
    difference, rounding, allowed = _checked(network, _ran(how, data, inputs), inputs, format)
    write_whole(path, data)
    return Exported(
        Path(path), format, len(data), tuple(tensors_of(example)[0].shape[1:]), difference, rounding, allowed
    )


def _encoded(network: nn.Module, example: Any, name: str, how: Format) -> bytes:
    batch = {0: torch.export.Dim("batch")}
    program = program_of(network, example, mapped(_named(network, example), lambda tensor: batch))
    try:
        with quietly():
            return how.encode(program)
    except Exception as error:  # the exporters raise what they like
        raise SupermaskError(f"The network cannot be written as {name}: {first_line(error)}.") from error


def _ran(how: Format, data: bytes, inputs: Sequence[Any]) -> list[list[Tensor]]:
    try:
        with quietly():
            run: Run = how.decode(data)
        return [run(given) for given in inputs]
    except Exception as error:  # as above
        raise SupermaskError(f"The network was written, but does not run: {first_line(error)}.") from error


@torch.no_grad()
def _checked(
    network: nn.Module, found: Sequence[Sequence[Tensor]], inputs: Sequence[Any], name: str
) -> tuple[float, float, float]:
    """Return the difference, the rounding and what is allowed; refuse a difference that is larger."""
    expected = [tensors_in(_called(network, given)) for given in inputs]
    difference, rounding = _difference(expected, found), _rounding(network, expected, inputs)
    allowed = max(TOLERANCE, OF_ROUNDING * rounding)
    if not difference <= allowed:  # NaN is not
        raise SupermaskError(
            f"What was written as {name} gives other numbers than the network: they differ by {difference:.1e} of the"
            f" largest output, where {allowed:.1e} is allowed; nothing was written."
        )
    return difference, rounding, allowed


def _rounding(network: nn.Module, expected: Sequence[Sequence[Tensor]], inputs: Sequence[Any]) -> float:
    try:
        exact = deepcopy(network).double()
        found = [tensors_in(_called(exact, mapped(given, _doubled))) for given in inputs]
    except Exception:  # a forward pass that makes tensors of its own may run in one precision only
        return 0.0
    rounding = _difference(found, expected)
    return rounding if rounding < torch.inf else 0.0


def _difference(expected: Sequence[Sequence[Tensor]], found: Sequence[Sequence[Tensor]]) -> float:
    """Return the largest difference over the largest number that is expected; infinity where shapes differ."""
    pairs = [pair for one, other in zip(expected, found, strict=True) for pair in zip(one, other, strict=False)]
    same = all(len(one) == len(other) for one, other in zip(expected, found, strict=True))
    if not same or any(a.shape != b.shape for a, b in pairs):
        return torch.inf
    largest = max((float(a.double().abs().max()) for a, _ in pairs if a.numel()), default=0.0)
    apart = max((float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel()), default=0.0)
    return apart / largest if largest else apart


def _called(network: nn.Module, given: Any) -> Any:
    args, keywords = arguments(given)
    return network(*args, **keywords)


def _named(network: nn.Module, example: Any) -> dict[str, Any]:
    """Return the inputs by the names that the forward pass has for them."""
    args, keywords = arguments(example)
    return dict(inspect.signature(network.forward).bind(*args, **keywords).arguments)


def _doubled(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _random(example: Any, count: int) -> Any:
    generator = torch.Generator().manual_seed(count)
    return mapped(example, lambda tensor: _drawn(tensor, count, generator))


def _drawn(example: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if example.is_floating_point():
        return torch.randn(count, *example.shape[1:], generator=generator).to(example.dtype)
    return example[torch.randint(len(example), (count,), generator=generator)]
