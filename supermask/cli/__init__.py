"""The command `supermask`."""

from supermask.cli.main import main

__all__ = ["main"]
