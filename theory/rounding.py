"""What rounding moves an output of a layer by at most, in the random network and in the target."""

import numpy as np

from theory.constructions.effective import Effective
from theory.norms import Bound, Norm, constant_norm, schur_norm
from theory.precision import FLOAT64, Precision
from theory.target import Matrix, TargetLayer


def layer_rounding(layer: TargetLayer, found: Effective, reach: Bound, norm: Norm, precision: Precision) -> Bound:
    """Return a bound of what rounding moves an output of one layer by, in both networks, for inputs up to `reach`.

    Args:
        layer: of the target.
        found: what the pair of random layers computes.
        reach: a bound of the norm of the inputs, of both networks; or one for each of some points.
        norm: of inputs and outputs.
        precision: in which both are run.

    """
    of_network = _sums(layer, found.mass, found.offset_mass, reach, norm)
    of_target = _sums(layer, np.abs(layer.kernel), layer.offset_mass, reach, norm)
    return rounding_of_sums(layer, found, of_network, of_target, reach, norm, precision)


def rounding_of_sums(
    layer: TargetLayer,
    found: Effective,
    of_network: Bound,
    of_target: Bound,
    reach: Bound,
    norm: Norm,
    precision: Precision,
) -> Bound:
    """Return the same, where bounds of the norm of the sums of sizes behind the outputs are known of both networks."""
    # 4 more: the first hop, and three numbers as they are stored. P, N and c were summed up in float64, path by path
    of_run = of_network * (precision.sums(found.terms + 4) + FLOAT64.sums(found.gathered + 4))
    # twice: the weights of the target as they are read and as they are stored, batch norm folded into them
    sums = of_run + 2.0 * of_target * precision.sums(layer.terms)
    # weights, hidden tensors and outputs of two hops; of the target, and what each batch norm stores
    stored = of_network * precision.stored(6) + of_target * precision.stored(6 + 6 * layer.norms)
    return sums + stored + _lost(layer, found, reach, norm, precision)


def algebra_rounding(layer: TargetLayer, of_network: Bound, of_target: Bound) -> tuple[Bound, Bound]:
    """Return bounds of what W * x + b and P * x+ - N * x- + c are off by as they are computed, in float64.

    Theirs are far fewer terms than the network's: two for each weight of the target, and the offset.

    Args:
        layer: of the target.
        of_network: a bound of the norm of the sums of sizes behind the network's outputs.
        of_target: the same of the target.

    """
    share = FLOAT64.sums(2 * layer.reads * layer.taps + 4)
    return of_target * share, of_network * share


def _lost(layer: TargetLayer, found: Effective, reach: Bound, norm: Norm, precision: Precision) -> Bound:
    """Return a bound of what is lost where weights, inputs and their products are too small to be normal numbers."""
    each = found.terms + found.outgoing + layer.terms * (1.0 + float(np.abs(layer.kernel).max(initial=0.0)))
    return precision.tiny * each * (1.0 + reach) * constant_norm(layer, np.ones(layer.outputs), norm)


def _sums(layer: TargetLayer, kernel: Matrix, offset: Matrix, reach: Bound, norm: Norm) -> Bound:
    """Return a bound of the sum of sizes behind an output."""
    return schur_norm(layer, kernel, norm) * reach + constant_norm(layer, offset, norm)
