"""The formats that a network can be written in, each with what writes it and what runs what was written."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from supermask.data.batch import arguments, tensors_of
from supermask.errors import SupermaskError
from supermask.graph.program import tensors_in
from supermask.shown import quoted

Run = Callable[[Any], list[Tensor]]
"""Takes an input, a tuple of several or a dictionary of them, gives the floating outputs."""


@dataclass(frozen=True)
class Format:
    """A way to write a network.

    Attributes:
        suffix: of its files.
        packages: that it needs besides PyTorch.
        encode: the graph, whose first dimension is the batch, to a file's bytes.
        decode: the bytes to what runs them, by another way than the network itself where there is one.

    """

    suffix: str
    packages: tuple[str, ...]
    encode: Callable[[ExportedProgram], bytes]
    decode: Callable[[bytes], Run]


def named_format(name: str) -> Format:
    """Return the format of that name.

    Raises:
        SupermaskError: there is none, or packages that it needs are missing.

    """
    if name not in FORMATS:
        raise SupermaskError(f"Unknown format {quoted(name)}; known are {', '.join(FORMATS)}.")
    missing = [package for package in FORMATS[name].packages if find_spec(package) is None]
    if missing:
        raise SupermaskError(
            f"The format {name} needs {', '.join(missing)}, which is not installed; run python -m pip install"
            " 'supermask[export]', or choose torch_export."
        )
    return FORMATS[name]


def _encode_program(program: ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _decode_program(data: bytes) -> Run:
    module = torch.export.load(io.BytesIO(data)).module()

    def run(given: Any) -> list[Tensor]:
        args, keywords = arguments(given)
        return tensors_in(module(*args, **keywords))

    return run


def _encode_onnx(program: ExportedProgram) -> bytes:
    inputs = program.graph_signature.user_inputs
    names: dict[str, Any] = {}
    if len(inputs) == 1:
        names = {"input_names": ["input"], "dynamic_shapes": ({0: "batch"},)}
    written = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    assert written is not None
    data: bytes = written.model_proto.SerializeToString()
    return data


def _decode_onnx(data: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(given: Any) -> list[Tensor]:
        names = [each.name for each in session.get_inputs()]
        fed = dict(zip(names, (tensor.numpy() for tensor in tensors_of(given)), strict=True))
        return tensors_in([torch.from_numpy(output) for output in session.run(None, fed)])

    return run


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _encode_onnx, _decode_onnx),
    "torch_export": Format(".pt2", (), _encode_program, _decode_program),
}
"""By name."""
