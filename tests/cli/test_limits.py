"""Whole numbers that nothing could ever count to are refused, whatever option they are given for."""

from dataclasses import fields, is_dataclass, replace
from importlib import import_module

import pytest

from supermask.cli.judge import Judge
from supermask.cli.limits import MOST, refuse_endless
from supermask.cli.main import COMMANDS, main
from supermask.errors import SupermaskError
from supermask.training import Recipe

ENDLESS = (MOST + 1, 2**63, 10**5000)


def counted(value, names=()):
    """Yield the options of a command that hold whole numbers, seeds left out, and the command with one of another."""
    for part in fields(value):
        held, path = getattr(value, part.name), (*names, part.name)
        if is_dataclass(held):
            for flag, make in counted(held, path):
                yield flag, lambda number, part=part, make=make: changed(value, part.name, make(number))
        elif "int" in str(part.type) and "Literal" not in str(part.type) and not part.name.endswith("seed"):
            listed = str(part.type).startswith("tuple")
            yield (
                ".".join(path[1:] or path).replace("_", "-"),
                lambda number, part=part, listed=listed: changed(value, part.name, (number,) if listed else number),
            )


def changed(value, name, held):
    """Return a copy that no check of its own has seen."""
    copied = object.__new__(type(value))
    copied.__dict__.update({**vars(value), name: held})
    return copied


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "inspect"])
def test_every_whole_number_of_every_command_has_a_limit(command):
    module, kind = COMMANDS[command].split(":")
    options = dict(counted(getattr(import_module(module), kind)()))
    assert {"export": "input-shape", "evaluate": "threads", "judge": "threads"}.get(command, "epochs") in options
    for flag, make in options.items():
        refuse_endless(make(1))
        for number in ENDLESS:
            with pytest.raises(SupermaskError, match=rf"--{flag} .* is out of range; a whole number here is at most"):
                refuse_endless(make(number))


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--ramp", f"--ramp {2**63} is out of range; a whole number here is at most 1,000,000,000."),
        ("--imp.round-steps", f"--imp.round-steps {2**63} is out of range; a whole number here is at most"),
        ("--epochs", f"epochs={2**63} is too large; it must be at most 1,000,000."),
        ("--synflow.iterations", f"iterations={2**63} is out of range; give from 1 to 100,000."),
    ],
)
def test_it_is_said_before_anything_begins(flag, says, capsys, tmp_path):
    try:
        status = main(["compare", "--data", "synthetic", flag, str(2**63), "--out", str(tmp_path / "out")])
    except SystemExit as end:  # of the parser, which makes recipes and methods
        status = end.code
    assert status == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "most"), [("epochs", 10**6), ("iterations", 10**9), ("warm_up", 10**9), ("padding", 1000)]
)
def test_a_recipe_has_limits_too(name, most):
    replace(Recipe(), **{name: most})
    for number in (most + 1, 2**63):
        with pytest.raises(SupermaskError, match=f"{name}={number} is too large; it must be at most {most:,}"):
            replace(Recipe(), **{name: number})
    with pytest.raises(SupermaskError, match="test_at"):
        Recipe(test_at=(10, 10**12))


@pytest.mark.parametrize(("minutes", "says"), [(1e300, "never end"), (525_601.0, "a year"), (0.0, "leaves no time")])
def test_minutes_have_limits(minutes, says):
    with pytest.raises(SupermaskError, match=says):
        Judge(minutes=minutes)()


def test_seeds_are_names_and_may_be_large():
    module, kind = COMMANDS["search"].split(":")
    refuse_endless(getattr(import_module(module), kind)(seed=2**63 - 1, order_seed=2**62))
