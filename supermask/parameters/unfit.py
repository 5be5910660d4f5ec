"""Why a parameter cannot hold scores: something else makes its numbers, or reads them past its module."""

from collections.abc import Iterator, Mapping
from functools import partial
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.weight_norm import WeightNorm

from supermask.errors import SupermaskError
from supermask.parameters.parameters import Place, Slot

_USUAL = {*vars(nn.Module())}
UNDER_FSDP = "_is_fsdp_managed_module"
"""What both kinds of FSDP set on modules whose parameters they spread; FSDP1 may leave the parameters as they look."""
_DEEPEST = 4
"""Containers within containers that are looked into."""


def refuse_unfit(model: nn.Module, slots: Mapping[str, Slot]) -> None:
    """Refuse parameters that would be masked or drawn though what the model computes is not made from them alone.

    Args:
        model: that has them.
        slots: those that a search means to overwrite, by name.

    Raises:
        SupermaskError: there are some; the first are named.

    """
    names = {id(module): name or "it" for name, module in model.named_modules()}
    problems = [why for slot in slots.values() for place in slot.places if (why := _busy(slot, place, names))]
    problems = [*dict.fromkeys(problems)] or [*_read_elsewhere(model, slots)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise SupermaskError(
            f"The model cannot be masked: {'; '.join(problems[:3])}{more}; give a freshly built, plain model, or name"
            " such parameters in learned=."
        )


def _busy(slot: Slot, place: Place, names: Mapping[int, str]) -> str | None:
    """Return what else makes the numbers of a parameter."""
    module, leaf = place
    owner = names[id(module)]
    if isinstance(module, parametrize.ParametrizationList):
        return f"{owner.rpartition('parametrizations')[0].rstrip('.') or 'it'} is already parametrized"
    if parametrize.is_parametrized(module):
        return f"{owner} is already parametrized"
    if vars(module).get(UNDER_FSDP):
        return f"{owner} is under FSDP, which a search does not know (DDP it does)"
    kind = type(slot.parameter)
    if not issubclass(kind, nn.Parameter) or kind.__name__ == "FlatParameter" or hasattr(slot.parameter, "ds_id"):
        return (
            f"{slot.name} is a {kind.__name__}, spread over devices or stored in a way of its own (a search knows DDP)"
        )
    for hook in module._forward_pre_hooks.values():
        # old-style spectral norm divides what is masked by a number, and stays
        if isinstance(hook, WeightNorm) and leaf in (f"{hook.name}_g", f"{hook.name}_v"):
            return f"{owner} has a weight norm"
        if isinstance(hook, BasePruningMethod) and leaf == f"{hook._tensor_name}_orig":
            return f"{owner} is already pruned"
    return None


def _read_elsewhere(model: nn.Module, slots: Mapping[str, Slot]) -> Iterator[str]:
    """Yield which parameters share memory with something else in the model, which would read the scores."""
    wanted = {id(slot.parameter) for slot in slots.values()}
    known = [*model.named_parameters(), *model.named_buffers()]
    found = [(name, tensor) for name, tensor in [*known, *_attributes(model)] if _lies_in_memory(tensor)]
    reach, before, last = 0, "", None
    for name, tensor in sorted(found, key=lambda each: _extent(each[1])):
        start, end = _extent(tensor)
        if start < reach and last is not None and not wanted.isdisjoint((id(tensor), id(last))):
            yield f"{before} and {name} are one memory, which is read past the module that masks it"
        if end > reach:
            reach, before, last = end, name, tensor


def _lies_in_memory(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided and tensor.numel() > 0


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Return the first address of a tensor and the one after its last."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size()


def _attributes(model: nn.Module, *, modules: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in plain attributes of modules: by themselves, in containers, in functions and in objects.

    With `modules`, the parameters of modules that lie there too.
    """
    for name, module in model.named_modules():
        # what a hook makes again before each pass, such as an old-style spectral norm
        made = {getattr(hook, "name", None) for hook in module._forward_pre_hooks.values()}
        # a recurrent layer lists its own weights, and reads them again
        own = {"_flat_weights"} if isinstance(module, nn.RNNBase) else set()
        for attribute in vars(module).keys() - _USUAL - made - own:
            for tensor in _inside(vars(module)[attribute], _DEEPEST, modules):
                yield f"{name}.{attribute}".lstrip("."), tensor


def outside(model: nn.Module) -> dict[str, int]:
    """Return what a model trains or saves past its parameters and buffers, so that no ticket has it.

    These are parameters in plain lists and other containers, and states that modules save in ways of their own.

    Returns:
        How many numbers each has, by name; 0 where that is not known.

    """
    known = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    every = {id(tensor): (name, tensor) for name, tensor in _attributes(model, modules=True)}
    hidden: dict[str, int] = {}
    for name, tensor in every.values():
        if type(tensor) is nn.Parameter and tensor.requires_grad and id(tensor) not in known:
            hidden[name] = hidden.get(name, 0) + tensor.numel()
    names = {*dict(model.named_parameters(remove_duplicate=False)), *dict(model.named_buffers(remove_duplicate=False))}
    state = model.state_dict(keep_vars=True)
    return hidden | {name: 0 for name, value in state.items() if name not in names and id(value) not in known}


def _inside(value: Any, depth: int, modules: bool) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif modules and isinstance(value, nn.Module):
        yield from value.parameters()
    elif depth and not isinstance(value, nn.Module | torch.optim.Optimizer):
        for part in _parts(value):
            yield from _inside(part, depth - 1, modules)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value.values()]
    if isinstance(value, list | tuple | set):
        return [*value]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, FunctionType):
        return [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
    # one level of an object of one's own, such as a fused kernel: beyond it lie trainers with their optimizers
    return [part for part in getattr(value, "__dict__", {}).values() if isinstance(part, Tensor)]
