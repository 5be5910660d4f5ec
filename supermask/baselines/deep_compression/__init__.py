"""Deep Compression (Han, Mao & Dally 2016): the rival of small tickets."""

from supermask.baselines.deep_compression.file import load
from supermask.baselines.deep_compression.method import FILE, DeepCompression

__all__ = ["FILE", "DeepCompression", "load"]
