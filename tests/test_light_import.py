"""What a command pays before it does anything: slow libraries are imported where they are used."""

import subprocess
import sys

import pytest

SLOW = ("scipy.stats", "sklearn", "torchvision")


@pytest.mark.parametrize("module", ["supermask", "supermask.judge", "supermask.cli.main", "theory"])
def test_no_slow_library_is_imported(module):
    code = f"import sys, {module}; print(*[name for name in {SLOW} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
