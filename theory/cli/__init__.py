"""The command `supermask construct`, which `supermask` finds by its entry point."""

from theory.cli.command import Construct

__all__ = ["Construct"]
