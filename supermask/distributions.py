"""Distributions of random weights: the public page of `supermask.random.distributions`."""

from supermask.random.distributions import (
    Distribution,
    Fans,
    KaimingNormal,
    KaimingUniform,
    SignedConstant,
    SignOf,
    TruncatedNormal,
    Uniform,
    UniformInteger,
    XavierNormal,
    XavierUniform,
    named,
)

__all__ = [
    "Distribution",
    "Fans",
    "KaimingNormal",
    "KaimingUniform",
    "SignOf",
    "SignedConstant",
    "TruncatedNormal",
    "Uniform",
    "UniformInteger",
    "XavierNormal",
    "XavierUniform",
    "named",
]
