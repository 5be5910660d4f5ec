"""The forward pass of a module as operations, each of which uses the result of the one before."""

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import einops
from einops.layers.torch import Rearrange, Reduce
from torch import fx, nn
from torch.fx.node import map_arg

from supermask.errors import SupermaskError, first_line
from theory.chain.calls import BATCH, CALLS, flatten_by
from theory.chain.checks import CHAIN_HINT, refusal, without_autocast
from theory.chain.modules import is_known


@dataclass(frozen=True, eq=False)
class TracedOp:
    """One operation of a forward pass.

    Attributes:
        name: as the user knows it: "features.3", or "view in forward" of a call.
        module: float64, on the CPU, in eval mode; for a call the module that does the same.

    """

    name: str
    module: nn.Module


def traced_ops(target: nn.Module) -> list[TracedOp]:
    """Follow the forward pass of a copy of a target, in float64 and eval mode.

    Raises:
        SupermaskError: the forward pass cannot be followed, is not a single chain, or calls what is not in `CALLS`.

    """
    # whose functions take no symbols; some releases of torch annotate a tuple of one module
    tracer = _Tracer(autowrap_modules=(math, einops))  # type: ignore[arg-type, unused-ignore]
    if tracer.is_leaf_module(target, ""):
        raise SupermaskError(f"The target is a {type(target).__name__}; give an nn.Sequential of such layers.")
    copy = _copy(target)
    nodes = _path(_trace(tracer, copy))
    return [_op(copy, before, node, nodes) for before, node in pairwise(nodes)]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_known(m) or type(m) in (Rearrange, Reduce) or super().is_leaf_module(m, module_qualified_name)


def _copy(target: nn.Module) -> nn.Module:
    try:
        return deepcopy(target).cpu().double().eval()
    except (RuntimeError, TypeError) as error:
        raise SupermaskError(f"The target cannot be copied ({first_line(error)}); give plain modules.") from error


def _trace(tracer: fx.Tracer, module: nn.Module) -> fx.Graph:
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


def _path(graph: fx.Graph) -> list[fx.Node]:
    """Return the input and the operations up to the output; refuse a graph that is more than that."""
    (output,) = graph.find_nodes(op="output")
    node, path = output.args[0], []
    if not isinstance(node, fx.Node):
        raise SupermaskError(f"The target's forward returns a {type(node).__name__}; give one that returns one tensor.")
    while node.op != "placeholder":
        path.append(node)
        node = _before(node)
    path = [node, *reversed(path)]
    _check_inputs(graph, node)
    _check_beside(graph, path)
    return path


def _before(node: fx.Node) -> fx.Node:
    """Return the node whose result an operation uses."""
    tensors = [each for each in node.all_input_nodes if not _is_size(each)]
    if len(tensors) != 1:
        many = f"brings {len(tensors)} tensors together" if tensors else "does not use the input"
        raise SupermaskError(f"The target's {_name(node)} {many}; {CHAIN_HINT}.")
    return tensors[0]


def _check_inputs(graph: fx.Graph, used: fx.Node) -> None:
    inputs = [node for node in graph.find_nodes(op="placeholder") if not node.args and node.target[:1] != "*"]
    if inputs != [used]:
        raise SupermaskError(f"The target's forward takes {len(inputs)} inputs; only one of one tensor can be built.")


def _check_beside(graph: fx.Graph, path: Sequence[fx.Node]) -> None:
    """Refuse what is computed and not returned: done in place, it would change what is."""
    for node in graph.nodes:
        if node.op != "output" and node not in path and not _is_size(node) and set(path) & set(node.all_input_nodes):
            raise SupermaskError(
                f"The target's {_name(node)} is beside the chain that leads to the output; {CHAIN_HINT}."
            )


def _is_size(node: fx.Node) -> bool:
    """Whether a node is computed from the sizes of tensors alone."""
    if _is_sizes(node) or _is_call(node, "size", "dim"):
        return True
    inputs = node.all_input_nodes
    return node.op == "call_function" and bool(inputs) and all(map(_is_size, inputs))


def _is_sizes(node: Any) -> bool:
    """Whether this is x.shape or x.size()."""
    if not isinstance(node, fx.Node):
        return False
    return (node.target is getattr and node.args[1:] == ("shape",)) or (_is_call(node, "size") and len(node.args) == 1)


def _is_call(node: fx.Node, *methods: str) -> bool:
    return node.op == "call_method" and node.target in methods


def _is_batch(node: fx.Node, path: Sequence[fx.Node]) -> bool:
    """Whether this is the first size of a tensor on the path: x.size(0), x.shape[0] or x.size()[0]."""
    source: Any = node.args[0] if node.args else None
    if _is_call(node, "size"):
        return source in path and [*node.args[1:], *node.kwargs.values()] == [0]
    first = node.target is operator.getitem and node.args[1:] == (0,)
    return first and _is_sizes(source) and source.args[0] in path


def _op(root: nn.Module, before: fx.Node, node: fx.Node, path: Sequence[fx.Node]) -> TracedOp:
    name = _name(node)
    args = [_constant(name, each, path) for each in node.args if each is not before]
    kwargs = {key: _constant(name, each, path) for key, each in node.kwargs.items() if each is not before}
    if node.op == "call_module":
        if args or kwargs:
            raise SupermaskError(f"The target's {name} is called with more than one input; {CHAIN_HINT}.")
        return TracedOp(name, _module(name, root.get_submodule(name)))
    if node.target not in CALLS:
        raise SupermaskError(f"The target calls {name}; {refusal(_function(node))}.")
    return TracedOp(name, _made(name, CALLS[node.target], args, kwargs))


def _module(name: str, module: nn.Module) -> nn.Module:
    return _made(name, flatten_by, [module.pattern], {}) if type(module) is Rearrange else module


def _made(name: str, make: Callable[..., nn.Module], args: Sequence[Any], kwargs: Mapping[str, Any]) -> nn.Module:
    try:
        return make(*args, **kwargs).eval()
    except SupermaskError as error:
        raise SupermaskError(f"The target's {name} {error}.") from None
    except TypeError as error:
        raise SupermaskError(f"The target's {name} is called with arguments that are not known: {error}.") from error


def _constant(name: str, argument: Any, path: Sequence[fx.Node]) -> Any:
    """Return an argument with `BATCH` for the size of the batch; refuse other symbols."""

    def size(node: fx.Node) -> str:
        if _is_batch(node, path):
            return BATCH
        raise SupermaskError(f"The target's {name} depends on the size of its input; give numbers that do not.")

    return map_arg(argument, size)


def _name(node: fx.Node) -> str:
    if node.op in ("call_module", "get_attr"):
        return str(node.target)
    module = ["", *node.meta.get("nn_module_stack", {})][-1]
    return f"{_function(node)} in {module}{'.' if module else ''}forward"


def _function(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))
