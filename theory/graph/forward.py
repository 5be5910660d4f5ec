"""The forward pass of a module as operations, each of which uses the results of some before it."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from supermask.errors import SupermaskError
from theory.graph.calls import ARITHMETIC, BATCH, CALLS, INPUT, FlattenTo, flatten_by, reduced_by
from theory.graph.checks import JOIN_HINT, refusal
from theory.graph.copies import plain_copy
from theory.graph.trace import function_of, graph_of_calls, is_call, is_size, is_sizes, name_of

IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
"""What changes its first operand."""


@dataclass(frozen=True, eq=False)
class TracedOp:
    """One operation of a forward pass.

    Attributes:
        name: as the user knows it: "features.3", or "view in forward" of a call.
        module: float64, on the CPU, in eval mode; for a call the module that does the same.
        sources: what it reads: 0 is the input, n what the n-th operation gives.
        shared: whether several operations read what it gives.

    """

    name: str
    module: nn.Module
    sources: tuple[int, ...]
    shared: bool


def traced_ops(target: nn.Module) -> list[TracedOp]:
    """Follow the forward pass of a copy of a target, in float64 and eval mode, from the input to the output.

    Raises:
        SupermaskError: the forward pass cannot be followed, takes or returns more than one tensor, or calls what is
            neither in `CALLS` nor in `ARITHMETIC`.

    """
    return _Forward(plain_copy(target)).ops()


def check_last_width(ops: Sequence[TracedOp]) -> None:
    """Refuse a view(-1, width) that no Linear follows: where an image has more pixels, it cuts it into several.

    Raises:
        SupermaskError: there is one.

    """
    for op in reversed(ops):
        if isinstance(op.module, nn.Linear):
            return
        if isinstance(op.module, FlattenTo) and op.module.width:
            raise SupermaskError(
                f"The target's {op.name} is followed by no Linear that takes its {op.module.width} outputs; "
                "flatten with x.flatten(1)."
            )


class _Forward:
    """The graph of a forward pass: which of its nodes lead from the input to the output, and what the others are."""

    def __init__(self, root: nn.Module) -> None:
        self.root, self.graph = root, graph_of_calls(root)
        (output,) = self.graph.find_nodes(op="output")
        self.last = output.args[0]
        if not isinstance(self.last, fx.Node):
            kind = type(self.last).__name__
            raise SupermaskError(f"The target's forward returns a {kind}; give one that returns one tensor.")
        self.constants = _constants(root, self.graph)
        self.nodes = self._nodes()
        self._check_beside()
        self._check_in_place()

    def ops(self) -> list[TracedOp]:
        """Return the operations."""
        return [self._op(node) for node in self.nodes[1:]]

    def _nodes(self) -> list[fx.Node]:
        """Return the input and the operations that the output depends on, in their order."""
        found, left = set(), [self.last]
        while left:
            node = left.pop()
            if node not in found:
                found.add(node)
                left += self._sources(node)
        inputs = [node for node in found if node.op == "placeholder"]
        self._check_number(inputs)
        return [*inputs, *(node for node in self.graph.nodes if node in found and node.op != "placeholder")]

    def _sources(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes whose results an operation uses, as often as it does."""
        tensors: list[fx.Node] = []
        map_arg((node.args, node.kwargs), lambda each: tensors.append(each) if self._is_tensor(each) else None)
        if not tensors and node.op != "placeholder":
            raise SupermaskError(f"The target's {name_of(node)} does not use the input; {JOIN_HINT}.")
        return tensors

    def _is_tensor(self, node: fx.Node) -> bool:
        return not is_size(node) and node not in self.constants

    def _check_number(self, used: Sequence[fx.Node]) -> None:
        inputs = [node for node in self.graph.find_nodes(op="placeholder") if not node.args and node.target[:1] != "*"]
        if inputs != list(used):
            raise SupermaskError(
                f"The target's forward takes {len(inputs)} inputs; only one of one tensor can be built."
            )

    def _check_beside(self) -> None:
        """Refuse what is computed and not returned: done in place, it would change what is."""
        for node in self.graph.nodes:
            beside = node.op != "output" and node not in self.nodes and not is_size(node)
            if beside and set(self.nodes) & set(node.all_input_nodes):
                raise SupermaskError(f"The target's {name_of(node)} is beside what leads to the output; leave it out.")

    def _check_in_place(self) -> None:
        """Refuse what changes a tensor that a later operation reads too."""
        for place, node in enumerate(self.nodes):
            if place and self._is_in_place(node):
                changed = self._sources(node)[0]
                later = [other for other in self.nodes[place + 1 :] if changed in self._sources(other)]
                if later:
                    raise SupermaskError(
                        f"The target's {name_of(node)} changes in place what {name_of(later[0])} reads too; leave "
                        "it as it is."
                    )

    def _is_in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.root.get_submodule(str(node.target)), "inplace", False))
        called = function_of(node)
        return (called.endswith("_") and not called.endswith("__")) or node.target in IN_PLACE or bool(
            node.kwargs.get("inplace", False)
        )  # fmt: skip

    def _op(self, node: fx.Node) -> TracedOp:
        sources = self._sources(node)
        readers = sum(self._sources(other).count(node) for other in self.nodes[1:])
        return TracedOp(name_of(node), self._made(node, sources), tuple(map(self.nodes.index, sources)), readers > 1)

    def _made(self, node: fx.Node, sources: Sequence[fx.Node]) -> nn.Module:
        name = name_of(node)
        if node.op == "call_module":
            if len(node.args) + len(node.kwargs) > 1:
                raise SupermaskError(f"The target's {name} is called with more than one input; {JOIN_HINT}.")
            return _module(name, self.root.get_submodule(str(node.target)))
        if node.target in ARITHMETIC:
            return _made(name, ARITHMETIC[node.target], *self._arguments(name, (node.args, node.kwargs)))
        if len(sources) > 1:
            raise SupermaskError(f"The target's {name} brings {len(sources)} tensors together; {JOIN_HINT}.")
        if node.target not in CALLS:
            raise SupermaskError(f"The target calls {name}; {refusal(function_of(node))}.")
        args = [each for each in node.args if each is not sources[0]]
        kwargs = {key: each for key, each in node.kwargs.items() if each is not sources[0]}
        return _made(name, CALLS[node.target], *self._arguments(name, (args, kwargs)))

    def _arguments(self, name: str, arguments: Any) -> Any:
        """Return arguments with `INPUT` for tensors of the graph and `BATCH` for its size; refuse other symbols."""

        def known(node: fx.Node) -> Any:
            if node in self.constants:
                return self.constants[node]
            if self._is_tensor(node):
                return INPUT
            if self._is_batch(node):
                return BATCH
            raise SupermaskError(f"The target's {name} depends on the size of its input; give numbers that do not.")

        return map_arg(arguments, known)

    def _is_batch(self, node: fx.Node) -> bool:
        """Whether this is the first size of a tensor of the graph: x.size(0), x.shape[0] or x.size()[0]."""
        source: Any = node.args[0] if node.args else None
        if is_call(node, "size"):
            return source in self.nodes and [*node.args[1:], *node.kwargs.values()] == [0]
        first = node.target is operator.getitem and node.args[1:] == (0,)
        return first and is_sizes(source) and source.args[0] in self.nodes


def _constants(root: nn.Module, graph: fx.Graph) -> dict[fx.Node, Tensor]:
    """Return the parameters and buffers that a forward pass uses by themselves, and what it computes from them."""
    interpreter = fx.Interpreter(root, graph=graph)
    for node in graph.nodes:
        inputs = node.all_input_nodes
        computed = node.op.startswith("call_") and bool(inputs) and all(each in interpreter.env for each in inputs)
        if (node.op == "get_attr" or computed) and not is_size(node):
            interpreter.env[node] = interpreter.run_node(node)
    return {node: value for node, value in interpreter.env.items() if isinstance(value, Tensor)}


def _module(name: str, module: nn.Module) -> nn.Module:
    if type(module) is Rearrange:
        return _made(name, flatten_by, [module.pattern], {})
    return _made(name, reduced_by, [module.pattern, module.reduction], {}) if type(module) is Reduce else module


def _made(name: str, make: Callable[..., nn.Module], args: Sequence[Any], kwargs: Mapping[str, Any]) -> nn.Module:
    try:
        return make(*args, **kwargs).eval()
    except SupermaskError as error:
        raise SupermaskError(f"The target's {name} {error}.") from None
    except TypeError as error:
        raise SupermaskError(f"The target's {name} is called with arguments that are not known: {error}.") from error
