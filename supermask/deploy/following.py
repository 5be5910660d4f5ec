"""The graph of a network is run once, and each operation says what becomes of the units."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from supermask.deploy.graph import graph_of
from supermask.deploy.rules import CHECKS, RULES, Step, pointwise
from supermask.deploy.units import Features, Ledger


def ledger_of(model: nn.Module, example: Tensor) -> Ledger:
    """Follow the units of every layer through a network.

    The graph is that of `torch.export`: it holds every operation of the forward pass, and a forward pass that chooses
    its way by the numbers that come is refused. What an operation does with units is said in `rules`; an operation that
    is not there needs all units that come to it.

    Args:
        model: in evaluation mode; left as it was.
        example: an input of the model, of two examples or more.

    Raises:
        SupermaskError: there is no such graph.

    """
    program = graph_of(model, example)
    if any(map(_mutates, program.graph.nodes)):
        program = program.run_decompositions({})
    following = _Following(program, model)
    with torch.no_grad():
        following.run(*_inputs(program, model, example))
    return following.ledger


class _Following(fx.Interpreter):
    """Runs a graph, and keeps for each node what is known of its units and whether it depends on the input."""

    def __init__(self, program: ExportedProgram, model: nn.Module) -> None:
        super().__init__(program.graph_module, garbage_collect_values=False)
        self.ledger = Ledger()
        self._program, self._model = program, model
        self._features: dict[fx.Node, Features] = {}
        self._varying: set[fx.Node] = set()
        self._owners = _owners(program)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op == "placeholder" and n.name in self._program.graph_signature.user_inputs:
            self._varying.add(n)
        if self._varying.intersection(n.all_input_nodes) and n.target not in CHECKS:
            self._varying.add(n)
            self._follow(n, value)
        return value

    def _follow(self, node: fx.Node, value: Any) -> None:
        step = Step(node, value, self.env, self._features, self._varying, self._owners, self.ledger, self._model)
        rule = RULES.get(node.target, pointwise if _is_pointwise(node) else None)
        found = rule(step) if rule is not None else None
        if found is not None:
            self._features[node] = found
            return
        for source in node.all_input_nodes:
            if source in self._features:
                self.ledger.need(self._features[source].units)


def _inputs(program: ExportedProgram, model: nn.Module, example: Tensor) -> list[Any]:
    own: Mapping[str, Tensor] = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
        **program.constants,
    }
    specs = program.graph_signature.input_specs
    return [example if spec.kind is InputKind.USER_INPUT else own[str(spec.target)] for spec in specs]


def _owners(program: ExportedProgram) -> dict[str, tuple[str, str]]:
    """Return, by name of an input of the graph that is a tensor of one module and read once: module and leaf."""
    users = {node.name: len(node.users) for node in program.graph.find_nodes(op="placeholder")}
    found = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and users[spec.arg.name] == 1:
            name, _, leaf = str(spec.target).rpartition(".")
            found[spec.arg.name] = (name, leaf)
    return found


def _mutates(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_pointwise(node: fx.Node) -> bool:
    tags = node.target.tags if isinstance(node.target, torch._ops.OpOverload) else ()
    return torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags
