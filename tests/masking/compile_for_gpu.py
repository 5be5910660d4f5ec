"""Compile every kernel for a GPU that need not be there, and print which of them load 16 bytes at a time.

The interpreter runs much that the compiler refuses. Run as a script, in a process that has not met the interpreter.
"""

import importlib.util
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TYPES = {
    **dict.fromkeys(("blocks", "kept", "states", "layouts", "runs", "windows"), "*i64"),
    **dict.fromkeys(("histograms", "ties", "cuts", "nan_counts", "coarse", "fine", "hits"), "*i32"),
    **dict.fromkeys(("frozen", "gradient", "scores", "out"), "*fp32"),
    "mask": "*i1",
    "count": "i32",
}


def compiled(kernel, **constants):
    names = kernel.arg_names
    nans = "*i64" if kernel.__name__ == "find_cut" else "*i32"
    types = {name: "constexpr" if name in constants else {**TYPES, "nans": nans}[name] for name in names}
    aligned = {(place,): [["tt.divisibility", 16]] for place, name in enumerate(names) if types[name][0] == "*"}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=aligned)
    options = {"num_warps": 8, "enable_fp_fusion": False}
    result = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    print(kernel.__name__, "wide" if "ld.global.v4.b32" in result.asm["ptx"] else "narrow")


def main(path):
    spec = importlib.util.spec_from_file_location("gpu_kernels", path)
    kernels = importlib.util.module_from_spec(spec)
    sys.modules["gpu_kernels"] = kernels  # where Triton looks for the source
    spec.loader.exec_module(kernels)
    select = {"SIGNED": True, "DTYPE": tl.float32, "BLOCK": 4096}
    window = {"WINDOW": 1 << 16}
    for byte in (0, 1):
        compiled(kernels.histogram, BYTE=byte, **select)
    compiled(kernels.count_ties, **select)
    for kernel in (kernels.count_window, kernels.find_cut):
        compiled(kernel, **select, **window)
    compiled(kernels.decide, **window)
    compiled(kernels.write, WEIGHT=tl.int32, **select, **window)
    compiled(kernels.mask_weights, BLOCK=4096)
    compiled(kernels.straight_through, SIGNED=False, BLOCK=4096)


if __name__ == "__main__":
    main(sys.argv[1])
