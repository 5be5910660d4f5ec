"""The memory at the peak of a training step, above that of the same program before it has a network."""

import gc
import multiprocessing
import re
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from experiments.measuring.stopwatch import use_all_cores
from experiments.measuring.training_step import StepSetting, TrainingStep

_STEPS = 2
"""The first makes gradients and momentum, the second has both all the while."""

_SMALL = StepSetting("lenet_300_100", (1, 28, 28), batch=1)
_PROCESS = Path("/proc/self")
_IGNORE_CTRL_C = (signal.SIGINT, signal.SIG_IGN)


def peak_bytes(setting: StepSetting, way: str, device: torch.device) -> int | None:
    """Return the bytes at the peak, or None where the system does not tell.

    On the CPU this is the resident memory of a process of its own, which takes up no memory that others left behind;
    on a GPU what PyTorch had allocated there.
    """
    if device.type == "cuda":
        return _peak_on_gpu(setting, way, device)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=signal.signal, initargs=_IGNORE_CTRL_C) as pool:
        return pool.submit(_peak_of_process, setting, way).result()


def _peak_on_gpu(setting: StepSetting, way: str, device: torch.device) -> int:
    gc.collect()
    before = torch.cuda.memory_allocated(device)
    step = TrainingStep(setting, way, device)
    torch.cuda.reset_peak_memory_stats(device)
    _take(step)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_of_process(setting: StepSetting, way: str) -> int | None:
    if not (_PROCESS / "clear_refs").exists():
        return None
    use_all_cores()
    _take(TrainingStep(_SMALL, way, torch.device("cpu")))  # what is imported and compiled on first use
    before = _resident("VmRSS")
    step = TrainingStep(setting, way, torch.device("cpu"))
    (_PROCESS / "clear_refs").write_text("5")  # forget the peak of building it
    _take(step)
    return _resident("VmHWM") - before


def _take(step: TrainingStep) -> None:
    for _ in range(_STEPS):
        step.train()


def _resident(field: str) -> int:
    """Return a field of this process's status in bytes.

    Not `getrusage`: its peak begins at that of the process that started this one.
    """
    found = re.search(rf"^{field}:\s+(\d+) kB$", (_PROCESS / "status").read_text(), re.MULTILINE)
    assert found
    return 1024 * int(found[1])
