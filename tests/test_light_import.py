"""What a command pays before it does anything: slow libraries are imported where they are used."""

import subprocess
import sys

import pytest

SLOW = ("triton", "scipy.stats", "sklearn", "torchvision", "matplotlib", "numba")
MODULES = ("supermask", "supermask.judge", "supermask.cli.main", "theory")
FOUND = f"print(*[name for name in {SLOW} if name in sys.modules], file=sys.stderr)"


def loaded(code):
    """Return which slow libraries another process has imported after the code."""
    done = subprocess.run([sys.executable, "-c", f"import sys\n{code}\n{FOUND}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.split()


def test_no_slow_library_is_imported():
    """By one process: what none of them imports after the others, none imports alone."""
    assert loaded("\n".join(f"import {name}" for name in MODULES)) == []


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["inspect", "--help"]])
def test_no_help_imports_one(arguments):
    """Nor `theory`, whose commands are listed from their source."""
    code = f"""
from supermask.cli import main
try:
    main({arguments})
except SystemExit as end:
    assert not end.code
"""
    assert loaded(f"{code}\nassert 'theory' not in sys.modules") == []


def test_a_library_that_is_imported_is_found():
    assert loaded("import scipy.stats, matplotlib") == ["scipy.stats", "matplotlib"]
