"""The calls of a forward pass, followed with symbols for tensors."""

import inspect
import math
from typing import Any

import einops
from einops.layers.torch import Rearrange, Reduce
from torch import fx, nn

from supermask.errors import SupermaskError, first_line
from theory.graph.checks import without_autocast
from theory.graph.modules import is_known


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_known(m) or type(m) in (Rearrange, Reduce) or super().is_leaf_module(m, module_qualified_name)


def graph_of_calls(module: nn.Module) -> fx.Graph:
    """Return the calls of modules and functions of a forward pass, with symbols for tensors.

    Raises:
        SupermaskError: the forward pass cannot be followed.

    """
    # whose functions take no symbols; some releases of torch annotate a tuple of one module
    tracer = _Tracer(autowrap_modules=(math, einops))  # type: ignore[arg-type, unused-ignore]
    if tracer.is_leaf_module(module, ""):
        raise SupermaskError(f"The target is a {type(module).__name__}; give an nn.Sequential of such layers.")
    parameters = inspect.signature(module.forward).parameters.values()
    plain = (bool, int, float, str, type(None))
    defaults = {each.name: each.default for each in parameters if isinstance(each.default, plain)}
    try:
        with without_autocast():
            return tracer.trace(module, concrete_args=defaults or None)
    except SupermaskError:
        raise
    except Exception as error:  # the forward is anyone's code, run with symbols for tensors
        raise SupermaskError(
            f"The target's forward cannot be followed ({first_line(error)}); only one that does the same "
            "for each input, without a choice that depends on it, can be built."
        ) from error


def is_size(node: fx.Node) -> bool:
    """Whether a node is computed from the sizes of tensors alone."""
    if is_sizes(node) or is_call(node, "size", "dim"):
        return True
    inputs = node.all_input_nodes
    return node.op == "call_function" and bool(inputs) and all(map(is_size, inputs))


def is_sizes(node: Any) -> bool:
    """Whether this is x.shape or x.size()."""
    if not isinstance(node, fx.Node):
        return False
    return (node.target is getattr and node.args[1:] == ("shape",)) or (is_call(node, "size") and len(node.args) == 1)


def is_call(node: fx.Node, *methods: str) -> bool:
    """Whether this is a call of one of these methods."""
    return node.op == "call_method" and node.target in methods


def name_of(node: fx.Node) -> str:
    """Return what a call is for the user: "features.3" of a module, "view in forward" of another."""
    if node.op in ("call_module", "get_attr"):
        return str(node.target)
    module = ["", *node.meta.get("nn_module_stack", {})][-1]
    return f"{function_of(node)} in {module}{'.' if module else ''}forward"


def function_of(node: fx.Node) -> str:
    """Return the name of the function or the method of a call."""
    return str(getattr(node.target, "__name__", node.target))
