"""What a trained network takes in a file: whole, as a mask with the values that it keeps, or as a ticket alone."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from supermask.files import tensor_bytes
from supermask.ticket import Ticket


@runtime_checkable
class _Sparse(Protocol):
    """A subject that has masks over the parameters of its model."""

    model: nn.Module

    def masks(self) -> dict[str, Tensor]: ...

    def ticket(self) -> Ticket: ...


def stored_bytes(subject: object) -> int:
    """Return the bytes of the smallest file that the toolkit's formats make of a network without any loss.

    A strong ticket is its own file. A trained network is its float32 tensors as a safetensors file; where it has masks,
    it is the file of the ticket, in which they are coded, and the kept values and all other tensors as a safetensors
    file, if these take less. `unpacked` reads the two again.

    Args:
        subject: what a method of the comparison leaves, with a `model`.

    """
    assert hasattr(subject, "model")
    state: dict[str, Tensor] = subject.model.state_dict()
    whole = len(tensor_bytes(state))
    if not isinstance(subject, _Sparse):
        return whole
    if not subject.ticket().provenance.get("trained", False):
        return subject.ticket().size
    return min(whole, subject.ticket().size + len(tensor_bytes(packed(state, subject.masks()))))


def packed(state: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network, those with a mask as the kept values alone, in the order of their places."""
    return {name: tensor[masks[name]] if name in masks else tensor for name, tensor in state.items()}


def unpacked(values: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dictionary that `packed` was given, with zeros where the masks prune."""
    state = dict(values)
    for name, mask in masks.items():
        state[name] = torch.zeros(mask.shape, dtype=values[name].dtype).masked_scatter(mask, values[name])
    return state
