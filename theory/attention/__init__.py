"""Attention layers and transformers in one masked random network, with a certificate."""

from theory.attention.build import BuiltTransformer, construct_transformer, network_of
from theory.attention.certificate import TokenCertificate
from theory.attention.domains import NearSequences, TokenBall

__all__ = ["BuiltTransformer", "NearSequences", "TokenBall", "TokenCertificate", "construct_transformer", "network_of"]
