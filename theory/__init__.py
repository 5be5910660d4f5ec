"""Constructions that prune one fixed random network to a given target, with a certificate."""

from theory import bounds
from theory.build import Built, construct
from theory.certificate import Certificate

__all__ = ["Built", "Certificate", "bounds", "construct"]
