"""Diagnostics of one ticket: what can be measured within a given time, and the report of it."""

from supermask.runs.diagnostics.context import Context
from supermask.runs.diagnostics.diagnostic import Diagnosed, Diagnostic, Size
from supermask.runs.diagnostics.examine import Examined, examine
from supermask.runs.diagnostics.registry import DIAGNOSTICS
from supermask.runs.diagnostics.report import write_report

__all__ = ["DIAGNOSTICS", "Context", "Diagnosed", "Diagnostic", "Examined", "Size", "examine", "write_report"]
