"""Constructions that prune one fixed random network to a given target, with a certificate."""

from theory import bounds
from theory.build import Built, construct
from theory.certificate import Certificate
from theory.exact import BuiltExactly, construct_exact
from theory.shallow import BuiltShallow, construct_shallow

__all__ = [
    "Built",
    "BuiltExactly",
    "BuiltShallow",
    "Certificate",
    "bounds",
    "construct",
    "construct_exact",
    "construct_shallow",
]
