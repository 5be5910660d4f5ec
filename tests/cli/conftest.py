"""A method that only the tests of the commands know, and a watch on the optimizer steps."""

import os
import signal

import pytest
from toy_method import Toy

from supermask.runs import METHODS
from supermask.training import loop


@pytest.fixture
def toy(monkeypatch):
    """Put a line into the registry."""
    monkeypatch.setitem(METHODS, Toy.name, Toy())
    monkeypatch.setattr(Toy, "refused", set())
    return Toy


@pytest.fixture
def steps(monkeypatch):
    """List the optimizer steps that are taken; `at` is a count of them at which Ctrl-C comes."""
    train_step = loop._Run._train_step

    class Steps(list):
        at = None

    def taken(run):
        found.append(run.step)
        if len(found) == found.at:
            os.kill(os.getpid(), signal.SIGINT)
        train_step(run)

    found = Steps()
    monkeypatch.setattr(loop._Run, "_train_step", taken)
    return found
