"""Deep Compression (Han, Mao & Dally 2016): the rival of small tickets."""

from supermask.baselines.deep_compression.method import FILE, DeepCompression
from supermask.baselines.deep_compression.network import load

__all__ = ["FILE", "DeepCompression", "load"]
