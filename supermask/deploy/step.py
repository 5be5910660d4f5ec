"""One operation of a graph, with what came to it and what it made of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from supermask.deploy.units import Features, Ledger


@dataclass(frozen=True, eq=False)
class Step:
    """An operation of which at least one operand depends on the network's input.

    Attributes:
        node: of the graph.
        result: what it computed.
        values: what each node before it computed.
        known: what is known of the tensors of the nodes before it that hold units.
        varying: the nodes that depend on the network's input.
        owners: by name of a parameter's node that nothing else reads: its module and the name that it has there.
        ledger: takes down what becomes of the units.
        model: the network.

    """

    node: fx.Node
    result: Any
    values: Mapping[fx.Node, Any]
    known: Mapping[fx.Node, Features]
    varying: set[fx.Node]
    owners: Mapping[str, tuple[str, str]]
    ledger: Ledger
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

    def owner(self, *leaves: str) -> str | None:
        """Return the name of the module whose parameters and buffers these arguments are, if it is one and all of it.

        Args:
            *leaves: names of arguments, and of the tensors in the module; an argument that is None is not there.

        """
        nodes = {leaf: self.argument(leaf) for leaf in leaves}
        owners = {self.owners.get(node.name, ("", ""))[0] for node in nodes.values() if node is not None}
        right = all(self.owners.get(node.name, ("", ""))[1] == leaf for leaf, node in nodes.items() if node is not None)
        if len(owners) != 1 or not right:
            return None
        (name,) = owners
        module = self.model.get_submodule(name)
        held = {leaf for leaf, tensor in {**module._parameters, **module._buffers}.items() if tensor is not None}
        read = {leaf for leaf, node in nodes.items() if node is not None}
        return name if held - {"num_batches_tracked"} == read and not _is_root(module, self.model) else None


def _is_root(module: nn.Module, model: nn.Module) -> bool:
    """Whether a module is the network itself and more than one layer, whose parameters are not those of a layer."""
    return module is model and any(True for _ in model.children())


def one_for_each(values: Tensor, axis: int) -> Tensor:
    """Return the number that a tensor has at each place of an axis, float64, or NaN where it has several."""
    rows = values.detach().movedim(axis, -1).flatten(0, -2).double()
    return torch.where((rows == rows[0]).all(0), rows[0], torch.nan).cpu()
