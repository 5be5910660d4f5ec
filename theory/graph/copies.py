"""A copy of a target to read and to run: plain, in float64, on the CPU and in eval mode."""

from copy import deepcopy

from torch import Tensor, nn
from torch.nn.utils import prune

from supermask.errors import SupermaskError, first_line


def plain_copy(target: nn.Module) -> nn.Module:
    """Return a copy in float64 and eval mode; what `torch.nn.utils.prune` has masked has its masked weights there.

    Raises:
        SupermaskError: it cannot be copied.

    """
    masked: dict[int, Tensor] = {}
    for module in target.modules():
        for name, mask in prunings(module):
            tensor = (getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask")).detach()
            # computed in each forward pass, so that the one there may be an old one, and is none to copy
            masked[id(vars(module).get(name, mask))] = tensor
    try:
        copy = deepcopy(target, masked).cpu().double().eval()
    except (RuntimeError, TypeError) as error:
        raise SupermaskError(f"The target cannot be copied ({first_line(error)}); give plain modules.") from error
    for module in copy.modules():
        for name, _ in prunings(module):
            prune.remove(module, name)
    return copy


def prunings(module: nn.Module) -> list[tuple[str, prune.BasePruningMethod]]:
    """Return the names of the tensors of a module that `torch.nn.utils.prune` masks, and its hooks."""
    hooks = module._forward_pre_hooks.values()
    return [(hook._tensor_name, hook) for hook in hooks if isinstance(hook, prune.BasePruningMethod)]
