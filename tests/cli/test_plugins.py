"""Commands of other packages: found by entry points, loaded when they are asked for, and no danger to the others."""

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint

import pytest

from supermask.cli import listing, main, plugins
from supermask.cli.main import COMMANDS


@dataclass(frozen=True)
class Greet:
    """Say something kind."""

    name: str = "you"
    """To whom."""

    def __call__(self):
        print(f"hello {self.name}")


def no_dataclass():
    return None


def entry(name, value):
    return EntryPoint(name=name, value=value, group=plugins.GROUP)


@pytest.fixture
def brought(monkeypatch):
    """Put entry points in place of those that are installed."""
    here = __name__

    def put(**commands):
        entries = [entry(name, value.replace("here", here)) for name, value in commands.items()]
        for module in (plugins, listing):
            monkeypatch.setattr(module, "entry_points", lambda *, group: entries if group == plugins.GROUP else [])

    return put


def status(*arguments):
    try:
        return main(list(arguments))
    except SystemExit as end:
        return end.code


def test_construct_is_installed(capsys):
    assert set(plugins.brought("construct")) == {"construct"}
    assert status("--help") == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in (*COMMANDS, "construct"))


def test_a_command_that_is_brought_runs(brought, capsys):
    brought(greet="here:Greet")
    assert status("greet", "--name", "world") == 0
    assert capsys.readouterr().out == "hello world\n"
    assert status("--help") == 0
    assert "Say something kind" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["no_such_package:Greet", "here:Missing", "here:no_dataclass", "here:COMMANDS"])
def test_one_that_cannot_be_loaded_is_told_and_breaks_no_other(value, brought, capsys):
    brought(broken=value, greet="here:Greet")
    assert status("broken") == 2
    error = capsys.readouterr().err
    assert error.startswith("supermask: The command broken ")
    assert error.endswith("install its package again.\n")
    assert status("greet") == 0
    assert capsys.readouterr().err == ""
    assert status("search", "--help") == 0
    assert capsys.readouterr().err == ""
    assert status("--help") == 0
    shown = capsys.readouterr()
    assert "greet" in shown.out
    assert "broken" not in shown.out
    assert "The command broken" in shown.err


@pytest.mark.parametrize("place", [*COMMANDS.values(), "theory.cli:Construct"])
def test_help_has_the_first_line_of_each_command_as_it_is(place):
    module, name = place.split(":")
    assert listing.summary(place) == getattr(import_module(module), name).__doc__.partition("\n")[0] != ""


def test_help_fits_a_terminal(capsys):
    assert status("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40


def test_our_own_commands_load_none_and_are_not_replaced(brought, monkeypatch, capsys):
    brought(inspect="here:Greet")

    def refuse(entry):
        raise AssertionError(entry)

    with monkeypatch.context() as patch:
        patch.setattr(plugins, "_load", refuse)
        assert status("inspect", "missing.ticket") == 2
    assert "Cannot read the ticket" in capsys.readouterr().err
    assert status("--help") == 0
    assert "Say something kind" not in capsys.readouterr().out
