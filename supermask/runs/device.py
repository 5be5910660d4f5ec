"""The device that a run is asked to compute on."""

import torch

from supermask.errors import SupermaskError
from supermask.shown import quoted


def checked_device(device: str) -> str:
    """Return the device to use for a name, with "auto" resolved."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise SupermaskError(f"Unknown device {quoted(device)}; give auto, cpu, cuda or cuda:N.") from None
    if kind.type not in ("cpu", "cuda"):
        raise SupermaskError(f"Device {device!r} is not supported; give auto, cpu, cuda or cuda:N.")
    if kind.type == "cuda" and not torch.cuda.is_available():
        raise SupermaskError(f"--device {device}: this machine has no GPU that PyTorch can use; give --device cpu.")
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise SupermaskError(f"--device {device}: there are only {torch.cuda.device_count()} GPUs, counted from 0.")
    return device
