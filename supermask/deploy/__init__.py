"""Using a ticket: without its dead units, sparse, and in formats that other programs run."""

from supermask.deploy.narrow import Narrowed, narrow

__all__ = ["Narrowed", "narrow"]
