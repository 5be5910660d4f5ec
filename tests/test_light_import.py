"""What a command pays before it does anything: slow libraries are imported where they are used."""

import subprocess
import sys

SLOW = ("scipy.stats", "sklearn", "torchvision")
MODULES = ("supermask", "supermask.judge", "supermask.cli.main", "theory")


def test_no_slow_library_is_imported():
    """By one process: what none of them imports after the others, none imports alone."""
    after = f"print(*[f'{{module}}: {{name}}' for name in {SLOW} if name in sys.modules])"
    code = "\n".join(["import sys", *(f"module = {name!r}\nimport {name}\n{after}" for name in MODULES)])
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
