"""Second derivatives of the loss by each weight alone: the diagonal of the Hessian."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vjp, vmap

from supermask.baselines.at_initialisation.probe import evaluating
from supermask.baselines.sparse import Sparse
from supermask.data.batch import Batch
from supermask.errors import SupermaskError
from supermask.training.objective import Objective, logits_of

_NUMBERS = 1 << 25
"""Derivatives that are held at once, 128 MB of float32: those of one output by all weights, for some of the outputs."""


def curvatures(network: Sparse, batch: Batch, objective: Objective) -> dict[str, Tensor]:
    """Return the diagonal of the Gauss-Newton matrix of the mean loss, by parameter name, in the weights' shapes.

    For each example it is that of J^T H J, with J the derivatives of the outputs by the weights and H the Hessian of
    the loss by the outputs. The diagonal of the whole Hessian adds the outputs' own second derivatives by each weight.
    These are zero where an output is piecewise linear in every single weight, as in networks of ReLU and max pooling
    that use each layer once: there the two are the same. In other networks this one is the part that cannot be
    negative, as LeCun, Denker & Solla 1990, section 3, take it.

    The network is in evaluation mode, so that an example's outputs do not depend on the others.

    Args:
        network: left as it was.
        batch: inputs, a tensor, and targets, one for each example.
        objective: how outputs become a loss, a mean over the batch. Where it bends down in the outputs, which the cross
            entropy does not, that part is left out.

    Raises:
        SupermaskError: the inputs are not one tensor, or the outputs not one row of numbers for each example.

    """
    inputs, targets = batch
    if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
        raise SupermaskError("The curvature of each weight needs inputs and targets of one tensor each.")
    weights = network.weights()
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    with evaluating(network.model):
        forward = _outputs_of(network)
        outputs = _row(forward(weights, inputs[0]))
        held = max(1, _NUMBERS // max(1, len(outputs) * sum(weight.numel() for weight in weights.values())))

        def squares(example: Tensor, target: Tensor) -> dict[str, Tensor]:
            found, back = vjp(lambda own: forward(own, example), weights)[:2]
            # backwards twice: forward derivatives would compile torch's own decompositions first
            curved = jacrev(jacrev(lambda row: objective.cost(row[None], target[None])))(found)
            (slopes,) = vmap(back)(_root(curved))
            return {name: slope.square().sum(0) for name, slope in slopes.items()}

        for some, those in zip(inputs.split(held), targets.split(held), strict=True):
            for name, square in vmap(squares)(some, those).items():
                sums[name] += square.sum(0)
    return {name: total / len(inputs) for name, total in sums.items()}


def _outputs_of(network: Sparse) -> Callable[[Mapping[str, Tensor], Tensor], Tensor]:
    """Return the function of the prunable weights and one example to its outputs."""
    model = network.model
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def outputs(weights: Mapping[str, Tensor], example: Tensor) -> Tensor:
        found = logits_of(functional_call(model, {**fixed, **weights}, (example[None],)))
        if found is None:
            raise SupermaskError("The curvature of each weight needs outputs that hold logits.")
        return found[0]

    return outputs


def _row(outputs: Tensor) -> Tensor:
    if outputs.ndim != 1:
        raise SupermaskError(
            f"The curvature of each weight needs one row of outputs for each example; these are {tuple(outputs.shape)}."
        )
    return outputs


def _root(matrix: Tensor) -> Tensor:
    """Return R, (n, n), with R^T R the part of a symmetric matrix that bends up."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0.0).sqrt()).mT
