"""Compile every kernel for a GPU that need not be there, and print which of them load 16 bytes at a time.

The interpreter runs much that the compiler refuses. Run as a script, in a process that has not met the interpreter.
"""

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from supermask.masking.kernels import gpu_kernels, gpu_writes

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


def main():
    select = {"SIGNED": True, "DTYPE": tl.float32, "BLOCK": 4096}
    window = {"WINDOW": 1 << 16}
    for byte in (0, 1):
        compiled(gpu_kernels.histogram, BYTE=byte, **select)
    compiled(gpu_kernels.count_ties, **select)
    for kernel in (gpu_kernels.count_window, gpu_kernels.find_cut):
        compiled(kernel, **select, **window)
    compiled(gpu_kernels.decide, **window)
    compiled(gpu_writes.write, WEIGHT=tl.int32, **select, **window)
    compiled(gpu_writes.mask_weights, BLOCK=4096)
    compiled(gpu_writes.straight_through, SIGNED=False, BLOCK=4096)


if __name__ == "__main__":
    main()
