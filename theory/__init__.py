"""Constructions that prune one fixed random network to a given target, with a certificate."""

from theory import bounds
from theory.build import Built, construct
from theory.certificate import Certificate
from theory.exact import BuiltExactly, construct_exact

__all__ = ["Built", "BuiltExactly", "Certificate", "bounds", "construct", "construct_exact"]
