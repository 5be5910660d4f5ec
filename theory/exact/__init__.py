"""Exact tickets: a network of few bits inside a random network of integers, without any error (Kumar & Natale)."""

from theory.exact.build import BuiltExactly, construct_exact
from theory.exact.certificate import ExactCertificate
from theory.exact.quantise import IntegerInputs, Quantised

__all__ = ["BuiltExactly", "ExactCertificate", "IntegerInputs", "Quantised", "construct_exact"]
