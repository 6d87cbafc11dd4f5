"""Which nodes of a traced graph multiply by a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edge_lra.graph.passes.match import made_by, only_reader, perm, rank
from edge_lra.graph.trace import Trace

HEAD_SHARE = 0.05  # of all linears' weights: a last linear up to this stays in float32


@dataclass(frozen=True)
class Linear:
    """A product with a weight, and the bias that is added to it.

    Attributes:
        product: reads x and the weight.
        weight: the parameter's name.
        turned: the module stores it as (in, out).
        bias: the parameter's name, or None.
        last: the node whose output is the linear's.
        turn: the node that turns the weight, or None.
    """

    product: ir.Node
    weight: str
    turned: bool
    bias: str | None
    last: ir.Node
    turn: ir.Node | None = None

    @property
    def module(self) -> str:
        """The name of the module whose weight it is."""
        return self.weight.removesuffix(".weight")

    def nodes(self) -> list[ir.Node]:
        """Return the nodes whose work the scheme's do, but for the turn, which may be shared."""
        return [self.product, self.last]


def parameter(trace: Trace, value: ir.Value | None, axes: int) -> str | None:
    """Return a weight's name if the value is one, of so many axes, with a place in a checkpoint."""
    name = None if value is None else str(value.name)
    known = name in trace.parameters and value is not None and value.is_initializer()
    return name if known and rank(value) == axes else None


def count(graph: ir.Graph, name: str) -> int:
    """Return the number of an initializer's entries."""
    shape = graph.initializers[name].shape
    assert shape is not None
    return int(np.prod(shape.numpy()))


def find_linears(trace: Trace) -> Iterator[Linear]:
    """Yield every product with a weight, in the graph's order."""
    for node in trace.model.graph:
        if node.domain or node.op_type not in ("MatMul", "Gemm") or node.inputs[0] is None:
            continue
        found = _gemm(trace, node) if node.op_type == "Gemm" else _product(trace, node)
        if found is not None:
            yield found


def _gemm(trace: Trace, node: ir.Node) -> Linear | None:
    """Return a Gemm that is a plain linear, or None."""
    given = {name: attribute.value for name, attribute in node.attributes.items()}
    weight = parameter(trace, node.inputs[1], 2)
    if weight is None or given.get("transA", 0) or given.get("alpha", 1.0) != 1.0:
        return None
    bias = None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = parameter(trace, node.inputs[2], 1)
        if bias is None or given.get("beta", 1.0) != 1.0:
            return None
    return Linear(node, weight, not given.get("transB", 0), bias, node)


def _product(trace: Trace, node: ir.Node) -> Linear | None:
    """Return a MatMul with a weight, with the bias that follows, or None."""
    x, right = node.inputs
    turn = made_by(right, "Transpose")
    if turn is not None and perm(turn) not in ((), (1, 0)):
        return None
    weight = parameter(trace, right if turn is None else turn.inputs[0], 2)
    if weight is None or (rank(x) or 0) < 2:
        return None
    add = only_reader(node.outputs[0])
    if add is not None and add.op_type in ("Add", "Sum") and not add.domain:
        names = [parameter(trace, value, 1) for value in add.inputs]
        if len(names) == 2 and any(names):
            return Linear(node, weight, turn is None, names[0] or names[1], add, turn)
    return Linear(node, weight, turn is None, None, node, turn)


def small_heads(trace: Trace, linears: Mapping[int, Linear]) -> dict[str, str]:
    """Return last linears that are small, module and weight: their error is the answer's."""
    graph = trace.model.graph
    sizes = {key: count(graph, linear.weight) for key, linear in linears.items()}
    limit = HEAD_SHARE * sum(sizes.values())
    found: dict[str, str] = {}
    for value in graph.outputs:
        node = value.producer()
        while node is not None and id(node) not in linears:
            made = [i.producer() for i in node.inputs if i is not None and i.producer() is not None]
            node = made[0] if len(made) == 1 else None
        if node is not None and sizes[id(node)] <= limit:
            found[linears[id(node)].module] = linears[id(node)].weight
    return found
