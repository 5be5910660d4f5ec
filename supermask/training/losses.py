"""Losses by a text: two names, or a function of the caller's own."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from torch.nn.functional import cross_entropy, mse_loss

from supermask.data import DataSet
from supermask.errors import SupermaskError
from supermask.imported import called, imported, is_place
from supermask.shown import quoted
from supermask.training.objective import Loss

LOSSES: Mapping[str, Loss] = MappingProxyType({"cross_entropy": cross_entropy, "mse": mse_loss})
"""Name to loss. Of integer labels the cross entropy is the one that needs no name."""


def named_loss(name: str | None, data_set: DataSet) -> Loss | None:
    """Return a loss, None where the outputs and the labels of the data set say which.

    Args:
        name: one of `LOSSES`, or `package.module:function`, which is imported: a function of outputs and targets, to
            their mean over the batch, or a class of such, e.g. torch.nn:SmoothL1Loss.
        data_set: that it is for.

    Raises:
        SupermaskError: there is no such loss.

    """
    if name is None or (name == "cross_entropy" and not data_set.train.labels.is_floating_point()):
        return None
    if name in LOSSES:
        return LOSSES[name]
    if not is_place(name):
        known = ", ".join(LOSSES)
        raise SupermaskError(f"There is no loss {quoted(name)}; known are {known}, and package.module:function.")
    found = imported(name)
    loss = called(name, found, {}) if isinstance(found, type) else found
    if not callable(loss):
        raise SupermaskError(f"{name} is of type {type(loss).__name__}; a loss is a function of outputs and targets.")
    return cast(Loss, loss)
