"""Reading a network: its graph is run once, and the rule of each operation records what becomes of the units."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from supermask.data.batch import arguments, tensors_of
from supermask.graph.channels import ChannelGraph
from supermask.graph.operation import Features, GraphOp, Parameter
from supermask.graph.program import evaluating, program_of, without_warnings
from supermask.graph.rules import CHECKS, rule_for


def channel_graph(model: nn.Module, example: Any) -> ChannelGraph:
    """Follow the units of every layer through a network.

    The graph of `torch.export` holds every operation of the forward pass in evaluation mode; a forward pass with
    branches that depend on numbers in its input is refused. What an operation does with units is said in `rules`; an
    operation that is not there requires all units that come to it.

    Args:
        model: any module with plain parameters; left as it was.
        example: an input of two examples or more, e.g. float32 (2, C, H, W), on the model's device; a tuple of several
            inputs, or a dictionary of them by name.

    Raises:
        SupermaskError: there is no such graph.

    """
    with evaluating(model):
        program = program_of(model, example)
        if any(map(_mutates, program.graph.nodes)):
            with without_warnings():
                program = program.run_decompositions({})
        reader = _GraphReader(program, model)
        reader.run(*_inputs(program, model, example))
    return reader.found


class _GraphReader(fx.Interpreter):
    """Runs a graph, and keeps for each node what is known of its units and whether it depends on the input."""

    def __init__(self, program: ExportedProgram, model: nn.Module) -> None:
        super().__init__(program.graph_module, garbage_collect_values=False)
        self.found = ChannelGraph()
        self._program, self._model = program, model
        self._features: dict[fx.Node, Features] = {}
        self._varying: set[fx.Node] = set()
        self._parameters = _parameters(program)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op == "placeholder" and n.name in self._program.graph_signature.user_inputs:
            self._varying.add(n)
        if self._varying.intersection(n.all_input_nodes) and n.target not in CHECKS:
            self._varying.add(n)
            self._follow(n, value)
        return value

    def _follow(self, node: fx.Node, value: Any) -> None:
        op = GraphOp(node, value, self.env, self._features, self._varying, self._parameters, self.found, self._model)
        rule = rule_for(node)
        features = rule(op) if rule is not None else None
        if features is None:
            self._require(op)
        else:
            self._features[node] = features if features.at_zero is not None else replace(features, at_zero=op.at_zero())

    def _require(self, op: GraphOp) -> None:
        """Keep all units that come to an operation that is not known to treat each by itself."""
        reason = _why(op, self._varying, self._features)
        for source in op.node.all_input_nodes:
            if source in self._features:
                self.found.require(self._features[source].units, reason)


def _why(op: GraphOp, varying: set[fx.Node], known: Mapping[fx.Node, Features]) -> str:
    if op.node.op == "output":
        return "they reach the network's output"
    if not isinstance(op.node.target, torch._ops.OpOverload):
        return "they reach an operation that is not known to treat each of them by itself"
    if any(source in varying and source not in known for source in op.operands()):
        return f"they are combined with numbers that are not units of a layer by {op}"
    return f"they reach {op}, which is not known to treat each of them by itself"


def _inputs(program: ExportedProgram, model: nn.Module, example: Any) -> list[Any]:
    own: Mapping[str, Tensor] = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
        **program.constants,
    }
    given = iter(tensors_of(arguments(example)))
    specs = program.graph_signature.input_specs
    return [next(given) if spec.kind is InputKind.USER_INPUT else own[str(spec.target)] for spec in specs]


def _parameters(program: ExportedProgram) -> dict[str, Parameter]:
    """Return the parameters and buffers among the inputs of a graph, by name of the node."""
    reads = {node.name: len(node.users) for node in program.graph.find_nodes(op="placeholder")}
    found = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            name, _, leaf = str(spec.target).rpartition(".")
            found[spec.arg.name] = Parameter(name, leaf, reads[spec.arg.name])
    return found


def _mutates(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
