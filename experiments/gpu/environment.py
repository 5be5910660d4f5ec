"""S0: what the machine is, whether the kernels can run, and how fast its memory is."""

import importlib
import os
import platform
import shutil

import torch

from experiments.gpu.bench import Bench
from supermask.masking.kernels.availability import available

_PACKAGES = ("triton", "numpy", "numba", "scipy", "einops", "safetensors", "torchvision", "tyro", "pulp", "highspy")
WHEELS = ("tyro", "docstring_parser", "typeguard", "pulp", "highspy", "submitit")
"""Packages that some tests need, and that a machine with PyTorch and Triton may lack: bring them as wheels."""


def run(bench: Bench) -> None:
    """Note versions, the card and the bandwidth of a copy."""
    bench.note("python", platform.python_version())
    bench.note("torch", torch.__version__)
    for name in _PACKAGES:
        try:
            bench.note(name, str(getattr(importlib.import_module(name), "__version__", "present")))
        except Exception as error:  # a package may fail in its own way, e.g. numba on a newer numpy
            bench.note(name, f"missing: {type(error).__name__}: {error}")
    bench.note("C compiler", shutil.which("gcc") or shutil.which("cc") or "none")
    bench.note("commit", os.environ.get("SUPERMASK_COMMIT", "unknown"))
    if bench.device.type == "cuda":
        properties = torch.cuda.get_device_properties(0)
        bench.note("card", properties.name, memory=properties.total_memory, processors=properties.multi_processor_count)
        bench.note("kernels available", available(), right=available())
    size = bench.size(1 << 30, 1 << 20)
    source = torch.randn(size // 4, device=bench.device)
    target = torch.empty_like(source)
    elapsed = bench.median(lambda: target.copy_(source), repeats=bench.size(20, 3))
    bench.note("bandwidth of a copy", float(f"{2 * size / elapsed / 1e9:.3g}"), "TB/s")
