"""A change of the coder's loops reaches the machine code: the compiler's cache does not hide it.

Numba keeps machine code by the source file of the outermost loop. Were an inner function in another file, its change
would go unnoticed wherever the cache is warm, and tests would pass on code that nobody has any more.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import supermask

PACKAGE = Path(supermask.__file__).parent
SHOW = """
import numpy as np
from supermask.ticket.coding import decode_mask, encode_mask
mask = np.arange(200).reshape(10, 20) * 7 % 11 < 4
code = encode_mask(mask)
print(code.hex(), np.array_equal(decode_mask(code, mask.shape), mask))
"""


@pytest.fixture
def copy(tmp_path):
    """The coder alone, in a package whose import takes no time, with its own cache."""
    package = tmp_path / "supermask"
    (package / "ticket").mkdir(parents=True)
    shutil.copytree(
        PACKAGE / "ticket" / "coding", package / "ticket" / "coding", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in PACKAGE.glob("*.py"):
        shutil.copy(path, package)
    for empty in (package, package / "ticket"):
        (empty / "__init__.py").write_text("")
    return package / "ticket" / "coding"


def shown(copy):
    """Return what a process of its own prints, with the machine code that the processes before it left."""
    root = copy.parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(root / "cache")}
    done = subprocess.run([sys.executable, "-c", SHOW], cwd=root, env=environment, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"


def change(copy, before, after):
    (path,) = [path for path in copy.glob("*.py") if before in path.read_text()]
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.slow  # two compilations; `tests/test_compiled.py` holds the files to what makes them right
def test_an_inverted_coder_writes_other_bytes_with_a_warm_cache(copy):
    before = shown(copy)
    assert before.endswith(" True\n")
    assert list((copy.parents[2] / "cache").rglob("*.nbc"))
    change(copy, "    if bit:\n        span = share\n", "    if not bit:\n        span = share\n")
    assert shown(copy) != before
