"""Whether a target computes what was read of it, where its certificate holds."""

import torch
from torch import nn

from supermask.errors import SupermaskError
from theory.ascent import norms
from theory.certificate import own_rounding
from theory.domains import Domain
from theory.graph.copies import plain_copy
from theory.norms import Norm
from theory.target import Target

POINTS = 16
"""Random inputs of the domain on which the two are run."""


@torch.no_grad()
def check_reading(target: nn.Module, read: Target, domain: Domain, norm: Norm) -> None:
    """Refuse a target that computes something else on inputs of the domain than was read, but for rounding.

    Args:
        target: the module.
        read: its layers.
        domain: of the inputs.
        norm: of inputs and outputs.

    Raises:
        SupermaskError: it does, or gives NaN or infinity there.

    """
    random = torch.randn(POINTS, *read.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = domain.place(domain.project(random, domain.ascends_by(norm)))
    found, computed = read(inputs), plain_copy(target)(inputs)
    allowed = 1e-9 * norms(found, norm).max() + own_rounding(read, domain.size(read.input_shape, norm), norm)
    if not bool((norms(found - computed, norm) <= allowed).all()):  # NaN is not
        raise SupermaskError(
            "The target does not compute what its modules say on inputs of the domain, or not in finite numbers; give"
            " plain modules without hooks, and a domain where its outputs are finite."
        )
