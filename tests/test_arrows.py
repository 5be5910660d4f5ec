"""The arrows of the house: what CONTRIBUTING's table says of who may import whom holds, lazy imports included."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("supermask", "theory", "experiments")
FLOORS = {name: floor for floor, name in enumerate(PACKAGES)}


def rooms():
    """Return the floor of each file or folder that the table of CONTRIBUTING names, as a dotted name."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| file or folder | holds |")[1].split("\n\n")[0]
    floors = {}
    for floor, row in enumerate(line for line in table.splitlines() if line.startswith("| `")):
        for name in re.findall(r"`([\w/]+)`", row.split("|")[1]):
            floors["supermask." + name.strip("/").replace("/", ".")] = floor
    return floors


def imports(path):
    """Yield the modules that a file imports, anywhere in it; `from package import module` names the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            source = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for target in imports(path):
                if target.split(".")[0] in PACKAGES:
                    yield source, target


def room_of(module, floors):
    """Return the innermost room of the table that holds a module, or None for the package's own face."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    return next((name for name in names if name in floors), None)


def test_no_package_imports_one_above_it():
    wrong = [arrow for arrow in arrows() if FLOORS[arrow[0].split(".")[0]] < FLOORS[arrow[1].split(".")[0]]]
    assert not wrong


def test_no_room_imports_one_below_it_in_the_table():
    floors = rooms()
    assert len(floors) > 15
    wrong = []
    for source, target in arrows():
        if source.startswith("supermask.") and target.startswith("supermask."):
            one, other = room_of(source, floors), room_of(target, floors)
            if one and other and floors[one] < floors[other]:
                wrong.append((source, target))
    assert not wrong


def test_every_room_stands_in_the_table():
    named = {name.split(".")[1] for name in rooms()}
    there = {path.stem for path in (ROOT / "supermask").iterdir() if path.suffix in ("", ".py")}
    assert there - named <= {"__init__", "__main__", "__pycache__", "py"}
