"""Whether the GPU kernels can run here; cheap to import, unlike them."""

import importlib.util
import warnings
from functools import cache

import torch


@cache
def available() -> bool:
    """Return whether Triton is installed, a GPU of NVIDIA's is there that it compiles for, and a first kernel ran.

    The kernel tells what nothing else does: Triton also needs a C compiler and Python's headers. It is compiled once
    per machine, which takes a second or two.
    """
    if torch.version.cuda is None or not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        return False
    return importlib.util.find_spec("triton") is not None and _first_kernel_runs()


def _first_kernel_runs() -> bool:
    try:
        from supermask.masking.kernels import gpu

        weights = torch.ones(1, device="cuda")
        gpu.mask_weights(weights, weights > 0, torch.empty_like(weights))
    except Exception as error:
        warnings.warn(f"Triton fails here, so scores are selected more slowly by torch: {error}", stacklevel=2)
        return False
    return True
