"""How the optimal error is distributed, and the statistics that check it and the bounds."""

from theory.laws.fits import fit_constant, median_slope, slope
from theory.laws.intervals import (
    Estimate,
    KolmogorovSmirnov,
    Proportion,
    clopper_pearson,
    failure_curve,
    kolmogorov_smirnov,
    median,
    median_ratio,
)
from theory.laws.optimum import (
    asymptotic_median_ratio,
    closest_pair_median,
    covering_radius,
    predicted_failure,
    rate,
    uniformized,
)
from theory.laws.plot import plot_failures, plot_slopes
from theory.laws.whole import predicted_misses, whole_rate

__all__ = [
    "Estimate",
    "KolmogorovSmirnov",
    "Proportion",
    "asymptotic_median_ratio",
    "clopper_pearson",
    "closest_pair_median",
    "covering_radius",
    "failure_curve",
    "fit_constant",
    "kolmogorov_smirnov",
    "median",
    "median_ratio",
    "median_slope",
    "plot_failures",
    "plot_slopes",
    "predicted_failure",
    "predicted_misses",
    "rate",
    "slope",
    "uniformized",
    "whole_rate",
]
