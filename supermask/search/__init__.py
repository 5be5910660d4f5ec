"""Searches: one file per algorithm that finds a strong ticket."""

from supermask.search.edge_popup import EdgePopup

__all__ = ["EdgePopup"]
