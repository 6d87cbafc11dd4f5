"""From a traced float graph to one whose weights are stored: linears and tables in the scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from edge_lra.adapters import Update
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.graph.builder import GraphBuilder
from edge_lra.graph.factors import FactorWriter, Slot
from edge_lra.graph.linears import Linear, count, find_linears, parameter, small_heads
from edge_lra.graph.passes.match import axis
from edge_lra.graph.plan import Built
from edge_lra.graph.trace import Trace
from edge_lra.quantize.schemes import KeepFloat, Scheme
from edge_lra.weights import Array, Dense, Source

TABLE = 1 << 14  # entries; smaller tables are kept in float32


@dataclass(frozen=True)
class LowerPlan:
    """What the stored graph is made from.

    Attributes:
        keep_float: shell patterns of modules whose linears stay in float32.
        merged: updates by tensor, folded into the weights.
        slots: what adapters do as graph inputs, by the name of a linear's weight.
        all_linear: let every linear have factors.
        replacements: tensors that an adapter brings, by name.
        head_inputs: take the linears that an adapter replaces as graph inputs.
    """

    trace: Trace
    checkpoint: Checkpoint
    scheme: Scheme
    keep_float: Sequence[str] = ()
    merged: Mapping[str, Update] = field(default_factory=dict)
    slots: Mapping[str, Slot] = field(default_factory=dict)
    all_linear: bool = False
    replacements: Mapping[str, Array] = field(default_factory=dict)
    head_inputs: bool = False


@dataclass(frozen=True)
class Lowered:
    """A graph whose weights are stored, and which of its products stay in float32."""

    built: Built
    scheme: KeepFloat
    float_sites: tuple[str, ...]
    tensors: frozenset[str]  # that it reads, by the module's names


class Lowering:
    """Moves a traced graph's nodes into a builder, the weights' readers in the scheme's form."""

    def __init__(self, plan: LowerPlan) -> None:
        """Find the linears, and which of them stay in float32."""
        self.plan, self.graph = plan, GraphBuilder()
        self.traced = plan.trace.model.graph
        self.linears = {id(found.last): found for found in find_linears(plan.trace)}
        weights = {linear.weight for linear in self.linears.values()}
        slots = dict(plan.slots)
        if plan.all_linear:
            slots |= {w: replace(slots.get(w, Slot()), low_rank=True) for w in sorted(weights)}
        self.factors = FactorWriter(self.graph, slots)
        self.weights, self.shared, self.read = weights, set[str](), set[str]()
        given = plan.replacements if plan.head_inputs else {}
        heads = small_heads(plan.trace, self.linears)
        self.heads = [module for module, weight in heads.items() if weight not in given]
        self.scheme = KeepFloat(plan.scheme, [*plan.keep_float, *self.heads])

    # ---- weights ---------------------------------------------------------------------------

    def source(self, name: str, turned: bool = False) -> Source:
        """Return where a tensor's rows come from, with what adapters do to it.

        Raises:
            EdgeError: neither the checkpoint nor an adapter has it.
        """
        plan = self.plan
        self.read.add(name)
        if name in plan.trace.constants:
            array = plan.trace.constants[name]
            return Source(plan.checkpoint, name, array.shape, replacement=array)
        replacement = plan.replacements.get(name)
        if replacement is None and name not in plan.checkpoint.tensors:
            raise EdgeError(
                f"{plan.checkpoint.path}: found no tensor {name!r}, expected it for this task; "
                "choose another --task, or give an adapter that brings it"
            )
        shape = plan.checkpoint.tensors[name].shape if replacement is None else replacement.shape
        update = plan.merged.get(name)
        shape = shape[::-1] if turned else shape
        return Source(plan.checkpoint, name, shape, update, replacement, transposed=turned)

    def dense(self, name: str) -> ir.Value:
        """Store a tensor as it is in float32."""
        stored = f"{name}.plain" if name in self.weights else name
        return self.graph.stored(Dense(stored, self.source(name)))[0]

    # ---- nodes -----------------------------------------------------------------------------

    def build(self, name: str) -> Lowered:
        """Move the graph."""
        outputs, nodes = list(self.traced.outputs), list(self.traced)
        inputs = list(self.traced.inputs)
        inner = {id(n) for linear in self.linears.values() for n in linear.nodes()}
        self.traced.outputs.clear()
        self.traced.inputs.clear()
        self.traced.remove(nodes)
        self.graph.inputs += inputs
        for node in nodes:
            if id(node) in self.linears:
                self.move(node.outputs[0], self.linear(self.linears[id(node)]), outputs)
            elif self.is_table(node):
                self.move(node.outputs[0], self.table(node), outputs)
                detach(node)
            elif id(node) not in inner:
                self.graph.nodes.append(node)
        self.drop_turns()
        self.attach()
        convolutions = dict.fromkeys(
            str(node.inputs[1].name).removesuffix(".weight")
            for node in self.graph.nodes
            if node.op_type.startswith("Conv") and node.inputs[1] is not None
        )
        sites = (*self.plan.keep_float, *self.heads, *convolutions)
        return Lowered(self.close(name, outputs), self.scheme, sites, frozenset(self.read))

    def move(self, old: ir.Value, new: ir.Value, outputs: list[ir.Value]) -> None:
        """Let readers have another value, which keeps dtype and shape."""
        new.type, new.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, new)
        for place, value in enumerate(outputs):
            if value is old:
                outputs[place] = new

    def linear(self, found: Linear) -> ir.Value:
        """Write a linear in the scheme, with what adapters do at its site."""
        plan, module, name = self.plan, found.module, found.weight
        x = found.product.inputs[0]
        assert x is not None
        if plan.head_inputs and name in plan.replacements:
            y = self.head(found, x)
        else:
            source = self.source(name, found.turned)
            self.share(found, x)
            y = self.scheme.linear(self.graph, x, name, source)
            bias = None if found.bias is None else self.dense(found.bias)
            y = self.factors.finish(x, y, bias, module, name, source.shape)
        for node in found.nodes():
            detach(node)
        return y

    def share(self, found: Linear, x: ir.Value) -> None:
        """Let the linears that read one value share a down factor."""
        group = [one for one in self.linears.values() if one.product.inputs[0] is x]
        if not self.factors.sites or len(group) == 1 or str(x.name) in self.shared:
            return
        self.shared.add(str(x.name))
        prefix = found.module.rpartition(".")[0] or found.module
        self.factors.share(x, prefix, [one.weight for one in group])

    def head(self, found: Linear, x: ir.Value) -> ir.Value:
        """Write a linear whose tensors are an adapter's, as graph inputs."""
        name, bias = found.weight, found.bias
        self.read |= {name, bias} if bias else {name}
        out, width = self.plan.replacements[name].shape
        weight = self.factors.input(name, (name,), "weight", (width, out))
        y = self.graph.op("MatMul", [x, weight])
        if bias is None:
            return y
        return self.graph.op("Add", [y, self.factors.input(bias, (bias,), "bias", (out,))])

    def is_table(self, node: ir.Node) -> bool:
        """Say whether a node looks rows up in a large table."""
        if node.op_type != "Gather" or node.domain or axis(node, 0) != 0:
            return False
        name = parameter(self.plan.trace, node.inputs[0], 2)
        return name is not None and count(self.traced, name) >= TABLE

    def table(self, node: ir.Node) -> ir.Value:
        """Write a look-up in the scheme."""
        table, ids = node.inputs
        assert table is not None and ids is not None
        name = str(table.name)
        stored = f"{name}.rows" if name in self.weights else name
        return self.scheme.embedding(self.graph, ids, stored, self.source(name))

    def drop_turns(self) -> None:
        """Remove the nodes that turned weights which are now stored that way."""
        turns = {id(found.turn) for found in self.linears.values()}
        idle = [n for n in self.graph.nodes if id(n) in turns and not n.outputs[0].uses()]
        for node in idle:
            detach(node)
            self.graph.nodes.remove(node)

    def attach(self) -> None:
        """Store the tensors that nodes still read, and keep the constants."""
        for name, value in list(self.traced.initializers.items()):
            if not value.uses():
                continue
            tensor = value.const_value
            new = self.dense(name) if tensor is None else self.graph.constant(tensor.numpy())
            ir.convenience.replace_all_uses_with(value, new)

    def close(self, name: str, outputs: Sequence[ir.Value]) -> Built:
        """Return the graph under the outputs' own names, without what the exporters wrote on it."""
        trace = self.plan.trace
        for node in self.graph.nodes:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
                value.type = value.shape = None
        for value in self.graph.inputs:
            value.metadata_props.clear()
        listed = [(o.name, v, o.shape) for o, v in zip(trace.outputs, outputs, strict=True)]
        model = self.graph.model(listed, name)
        for value, result in zip(model.graph.outputs, trace.outputs, strict=True):
            value.dtype = ir.DataType.from_numpy(np.dtype(result.dtype))
        return Built(
            model,
            self.graph,
            tuple((node.name, node.shape) for node in trace.inputs),
            tuple((node.name, node.shape) for node in trace.outputs),
            tuple(self.factors.inputs),
        )


def detach(node: ir.Node) -> None:
    """Let a node that was replaced read nothing any more."""
    for place in range(len(node.inputs)):
        node.replace_input_with(place, None)


def lower(plan: LowerPlan, name: str) -> Lowered:
    """Return the graph of a plan with its weights unread. The trace's own graph is used up."""
    return Lowering(plan).build(name)
