"""Using a ticket: without its dead units, sparse, and in formats that other programs run."""

from supermask.deploy.csr import SparseLinear, SparsePointwise, csr
from supermask.deploy.export import Exported, export
from supermask.deploy.formats import FORMATS
from supermask.deploy.narrow import Narrowed, narrow

__all__ = ["FORMATS", "Exported", "Narrowed", "SparseLinear", "SparsePointwise", "csr", "export", "narrow"]
