"""`supermask compare`: several methods, densities and seeds on one network and one data set, one table."""

from supermask.cli.compare.command import Compare

__all__ = ["Compare"]
