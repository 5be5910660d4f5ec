"""One operation of a network's graph, with what it reads and what it computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from supermask.graph.channels import ChannelGraph


@dataclass(frozen=True, eq=False)
class Features:
    """What is known of a tensor that a network computes.

    Attributes:
        axis: the dimension that counts units.
        units: the unit of each place along it, int64.
        fixed: whether the numbers at that place are the same whatever the network's input is, bool.
        at_zero: the tensor as it would be if its units gave out zeros; None where the operation on such tensors
            gives that.

    """

    axis: int
    units: Tensor
    fixed: Tensor
    at_zero: Tensor | None = None


class Parameter(NamedTuple):
    """A parameter or buffer in a graph: its module, the name that it has there, and how many operations read it."""

    module: str
    leaf: str
    reads: int


class Owner(NamedTuple):
    """The module whose tensors an operation computes with, and why it cannot be made smaller, or None."""

    name: str
    why: str | None


@dataclass(frozen=True, eq=False)
class GraphOp:
    """An operation with at least one operand that depends on the network's input.

    Attributes:
        node: of the graph.
        result: what it computed.
        values: what each node before it computed.
        known: what is known of the tensors of the nodes before it that hold units.
        varying: the nodes that depend on the network's input.
        parameters: by name of a node.
        graph: where units, layers and groups are recorded.
        model: the network.

    """

    node: fx.Node
    result: Any
    values: Mapping[fx.Node, Any]
    known: Mapping[fx.Node, Features]
    varying: set[fx.Node]
    parameters: Mapping[str, Parameter]
    graph: ChannelGraph
    model: nn.Module

    def argument(self, name: str) -> Any:
        """Return an argument by the name that the operator's schema has for it, a node for a tensor."""
        for place, argument in enumerate(self.node.target._schema.arguments):  # type: ignore[union-attr]
            if argument.name == name:
                default = self.node.kwargs.get(name, argument.default_value)
                return self.node.args[place] if place < len(self.node.args) else default
        return None

    def value(self, name: str) -> Any:
        """Return an argument with the tensor that a node stands for."""
        argument = self.argument(name)
        return self.values[argument] if isinstance(argument, fx.Node) else argument

    def features(self, name: str) -> Features | None:
        """Return what is known of a tensor among the arguments."""
        return self.known.get(self.argument(name))

    def varies(self, *names: str) -> bool:
        """Return whether one of these arguments depends on the network's input."""
        return any(self.argument(name) in self.varying for name in names)

    def operands(self) -> list[fx.Node]:
        """Return the nodes among the arguments that stand for tensors."""
        return [node for node in self.node.all_input_nodes if isinstance(self.values[node], Tensor)]

    def run_on(self, instead: Mapping[fx.Node, Any]) -> Any:
        """Return what the operation computes with other values of some nodes."""

        def value(node: fx.Node) -> Any:
            return instead[node] if node in instead else self.values[node]

        target: Any = self.node.target
        return target(*fx.map_arg(self.node.args, value), **fx.map_arg(self.node.kwargs, value))

    def at_zero(self) -> Tensor:
        """Return the (first) result as it would be if all units that come to it gave out zeros."""
        silent = {node: features.at_zero for node in self.node.all_input_nodes if (features := self.known.get(node))}
        result = self.run_on(silent)
        return result if isinstance(result, Tensor) else result[0]

    def place(self) -> str:
        """Return the name of the innermost module that the operation is done in."""
        stack = list(self.node.meta.get("nn_module_stack", {}).values())
        return stack[-1][0] if stack else ""

    def __str__(self) -> str:
        name = self.node.target._schema.name.rpartition(":")[2]  # type: ignore[union-attr]
        return f"{name} in {named(self.model, self.place())}"

    def owner(self, kind: Any, *leaves: str) -> Owner:
        """Return the module whose parameters and buffers these arguments are, and what keeps it from shrinking.

        Args:
            kind: of the module.
            *leaves: names of arguments, and of the tensors in the module; an argument that is None is not there.

        """
        nodes = {leaf: node for leaf in leaves if (node := self.argument(leaf)) is not None}
        found = {leaf: self.parameters.get(node.name) for leaf, node in nodes.items()}
        modules = {parameter.module for parameter in found.values() if parameter is not None}
        name = modules.pop() if len(modules) == 1 else self.place()
        module = self.model.get_submodule(name)
        reads = max((parameter.reads for parameter in found.values() if parameter is not None), default=0)
        if reads > 1:
            others = _sharers(self.model, module)
            shared = f"shares a parameter with {others[0] or 'the network itself'}" if others else None
            return Owner(name, shared or f"is called {reads} times in a forward pass")
        if modules or any(parameter is None or parameter.leaf != leaf for leaf, parameter in found.items()):
            return Owner(name, "does not hold its own weights")
        tensors = {**module._parameters, **module._buffers}
        held = {leaf for leaf, tensor in tensors.items() if tensor is not None} - {"num_batches_tracked"}
        is_root = module is self.model and any(True for _ in module.children())
        plain = isinstance(module, kind) and held == set(nodes) and not is_root
        return Owner(name, None if plain else "computes with more than a layer's own weights")


def named(model: nn.Module, name: str) -> str:
    """Return a module's name with its class, for a message."""
    return f"{name} ({type(model.get_submodule(name)).__name__})" if name else "the network itself"


def _sharers(model: nn.Module, module: nn.Module) -> list[str]:
    """Return the names of the other modules that hold a parameter of this one."""
    own = set(map(id, module.parameters(recurse=False)))
    return [
        name
        for name, other in model.named_modules()
        if other is not module and own & set(map(id, other.parameters(recurse=False)))
    ]


def one_for_each(values: Tensor, axis: int) -> Tensor:
    """Return the number that a tensor has at each place of an axis, float64, or NaN where it has several."""
    rows = values.detach().movedim(axis, -1).flatten(0, -2).double()
    return torch.where((rows == rows[0]).all(0), rows[0], torch.nan).cpu()
