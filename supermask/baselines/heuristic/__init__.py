"""Supermasks by a criterion on the weights before and after a dense training (Zhou et al. 2019)."""

from supermask.baselines.heuristic.method import Heuristic, HeuristicTrained

__all__ = ["Heuristic", "HeuristicTrained"]
