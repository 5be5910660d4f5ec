"""What a result was made with: versions, machine, and choices as plain values."""

import os
import platform
import subprocess
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = {name: _version(name) for name in ("supermask", "torch", "torchvision", "numpy")}
    return {"python": platform.python_version(), **packages}


def machine(device: str | torch.device = "cpu") -> dict[str, Any]:
    """Return the hardware that a result was measured on."""
    device = torch.device(device)
    facts: dict[str, Any] = {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def commit() -> str | None:
    """Return the commit of the checkout that this package is run from, with "+" if it was changed since; else None.

    Collected results do not count as a change: they are what experiments write.
    """
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        described = _git("describe", "--always", "--abbrev=12", "--exclude=*")
        changed = _git("status", "--porcelain", "--untracked-files=no", ":/", ":(top,exclude)experiments/results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{described}+" if changed else described


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def describe(choice: Any) -> dict[str, Any]:
    """Return the class and the fields of a frozen dataclass that stands for a choice."""
    assert is_dataclass(choice)
    assert not isinstance(choice, type)
    return {"name": type(choice).__name__, **asdict(choice)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
