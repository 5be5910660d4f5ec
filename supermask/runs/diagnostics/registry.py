"""Every diagnostic, in the order in which they are begun: what says most in the least time comes first."""

from typing import Any

from supermask.runs.diagnostics.accuracy import Accuracy
from supermask.runs.diagnostics.diagnostic import Diagnostic
from supermask.runs.diagnostics.file_bytes import FileBytes
from supermask.runs.diagnostics.identity import Identity
from supermask.runs.diagnostics.instability import Instability
from supermask.runs.diagnostics.layers import Layers
from supermask.runs.diagnostics.trained_controls import TrainedControls
from supermask.runs.diagnostics.untrained_controls import UntrainedControls

DIAGNOSTICS: tuple[Diagnostic[Any], ...] = (
    Identity(),
    FileBytes(),
    Accuracy(),
    Layers(),
    UntrainedControls(),
    TrainedControls(),
    Instability(),
)
"""A new diagnostic is a file beside these and a line here."""
assert len({each.name for each in DIAGNOSTICS}) == len(DIAGNOSTICS), "two diagnostics have one name"
