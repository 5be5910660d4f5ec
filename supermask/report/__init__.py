"""What people look at: tables that fit a terminal, plots, and means with their intervals."""

from supermask.report.intervals import Mean, mean
from supermask.report.plot import plot_accuracy_over_steps, plot_bars, plot_loss_over_steps, plot_telemetry
from supermask.report.table import table

__all__ = [
    "Mean",
    "mean",
    "plot_accuracy_over_steps",
    "plot_bars",
    "plot_loss_over_steps",
    "plot_telemetry",
    "table",
]
