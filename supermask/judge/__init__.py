"""Judging a ticket: controls that change one thing in it, paired comparisons, and a verdict per claim."""

from supermask.judge.barrier import Barrier, barrier
from supermask.judge.bound import GeneralizationBound, LabelCode, generalization_bound, label_code_length
from supermask.judge.changes import Changed, changed
from supermask.judge.controls import CONTROLS, named_control
from supermask.judge.correlation import Correlation, weight_correlation
from supermask.judge.hessian import Density, Spectrum, extreme_eigenvalues, spectral_density
from supermask.judge.jackpot import Jackpot, Sweep, jackpot
from supermask.judge.landscape import Plane, Surface, filter_normalised, principal_plane, surface
from supermask.judge.paired import Paired, paired
from supermask.judge.perturbations import Noised, Permuted, Recombined, effective_deviation, signs_changed
from supermask.judge.report import Judged, judge
from supermask.judge.verdicts import Verdict, verdicts

__all__ = [
    "CONTROLS",
    "Barrier",
    "Changed",
    "Correlation",
    "Density",
    "GeneralizationBound",
    "Jackpot",
    "Judged",
    "LabelCode",
    "Noised",
    "Paired",
    "Permuted",
    "Plane",
    "Recombined",
    "Spectrum",
    "Surface",
    "Sweep",
    "Verdict",
    "barrier",
    "changed",
    "effective_deviation",
    "extreme_eigenvalues",
    "filter_normalised",
    "generalization_bound",
    "jackpot",
    "judge",
    "label_code_length",
    "named_control",
    "paired",
    "principal_plane",
    "signs_changed",
    "spectral_density",
    "surface",
    "verdicts",
    "weight_correlation",
]
