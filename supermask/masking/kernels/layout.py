"""How tensors lie in memory."""

from torch import Tensor


def in_memory_order(*tensors: Tensor) -> tuple[Tensor, ...] | None:
    """Return 1-D views of tensors of one shape, entry by entry alike, or None where they do not lie alike and dense.

    Row-major tensors come in row-major order; channels_last and transposed ones in that of their memory.
    """
    if all(tensor.is_contiguous() for tensor in tensors):
        return tuple(tensor.view(-1) for tensor in tensors)
    strides = tensors[0].stride()
    order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    turned = [tensor.permute(order) for tensor in tensors]
    if not all(tensor.is_contiguous() for tensor in turned):
        return None
    return tuple(tensor.view(-1) for tensor in turned)


def lie_alike(*tensors: Tensor) -> bool:
    """Return whether tensors of one shape lie dense, with each entry at the same place in all of them."""
    return all(map(Tensor.is_contiguous, tensors)) or in_memory_order(*tensors) is not None
