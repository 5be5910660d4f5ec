"""Scores become masks: selection, budgets, schedules and the parametrization that puts them on a module."""
