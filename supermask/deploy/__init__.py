"""Using a ticket: without its dead units, sparse, and in formats that other programs run."""

from supermask.deploy.csr import SparseLinear, SparsePointwise, csr
from supermask.deploy.export import Exported, export
from supermask.deploy.formats import FORMATS
from supermask.deploy.narrow import Narrowed, narrow
from supermask.deploy.sparse import SparseForm, sparse

__all__ = [
    "FORMATS",
    "Exported",
    "Narrowed",
    "SparseForm",
    "SparseLinear",
    "SparsePointwise",
    "csr",
    "export",
    "narrow",
    "sparse",
]
