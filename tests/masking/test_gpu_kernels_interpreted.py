"""What is known of the GPU's kernels without a GPU.

Triton takes its interpreter when it is first imported, so each of these has a process of its own.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from supermask.masking.kernels.availability import available

with_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton on this platform")


@with_triton
@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_the_kernels_are_right_in_the_interpreter(which):
    module = Path(__file__).with_name("test_gpu_kernels.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", f"{which} and not gpu", module],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_kernels_are_not_available():
    assert not available()


def test_neither_the_package_nor_the_check_needs_triton():
    script = (
        "import sys; sys.modules['triton'] = None\n"
        "import supermask\nfrom supermask.masking.kernels.availability import available\nassert not available()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})


@with_triton
def test_the_kernels_compile_for_a_gpu(tmp_path):
    script = Path(__file__).with_name("compile_for_gpu.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, script],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loads = [tuple(line.split()) for line in done.stdout.splitlines()]
    narrow = [(kernel, "narrow") for kernel in ("histogram", "count_window", "find_cut", "decide")]
    assert [load for load in loads if load[1] == "narrow"] == narrow
    assert len(loads) == 9
