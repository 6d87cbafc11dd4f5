"""A thin writer of onnx_ir nodes that keeps the weights unread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edge_lra.weights import Spec, Stored

OPSET = 20  # Gelu is a standard op from here on
DTYPES = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "int32": ir.DataType.INT32,
    "int8": ir.DataType.INT8,
    "uint8": ir.DataType.UINT8,
    "int64": ir.DataType.INT64,
}


class GraphBuilder:
    """Collects nodes, graph inputs, constants and stored weights in order."""

    def __init__(self) -> None:
        """Start empty."""
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []
        self.constants: dict[str, ir.Value] = {}
        self.weights: list[Stored] = []
        self.values: dict[str, ir.Value] = {}
        self.views: dict[str, Spec] = {}  # by stored tensor, the same bytes in another shape
        self._shared: dict[tuple[str, str], tuple[ir.Value, ...]] = {}
        self._count = 0

    def _name(self, op: str) -> str:
        self._count += 1
        return f"{op}_{self._count}"

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> ir.Value:
        """Add a required graph input; text dimensions are symbolic."""
        value = ir.Value(name=name, type=ir.TensorType(DTYPES[dtype]), shape=ir.Shape(list(shape)))
        self.inputs.append(value)
        return value

    def stored(self, weight: Stored) -> tuple[ir.Value, ...]:
        """Add a weight that is written later; returns one value a stored tensor.

        A weight of a name that is stored already is the same one, read again.
        """
        if all(spec.name in self.values for spec in weight.specs):
            return tuple(self.values[spec.name] for spec in weight.specs)
        self.weights.append(weight)
        return tuple(self._placeholder(spec) for spec in weight.specs)

    def _placeholder(self, spec: Spec) -> ir.Value:
        value = ir.Value(
            name=spec.name, type=ir.TensorType(DTYPES[spec.dtype]), shape=ir.Shape(list(spec.shape))
        )
        self.values[spec.name] = value
        return value

    def view(self, stored: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        """Return a stored tensor in another shape: a second name of its bytes in the data file.

        The runtime maps each name apart. So it drops the pages of one that a kernel has packed
        into memory of its own, and of the other has only those in memory that were read.
        """
        name = str(stored.name)
        if name not in self.views:
            dtype = next(s.dtype for w in self.weights for s in w.specs if s.name == name)
            self.views[name] = Spec(f"{name}.rows", shape, dtype)
            self._placeholder(self.views[name])
        return self.values[self.views[name].name]

    def constant(self, array: npt.NDArray[Any]) -> ir.Value:
        """Add a small constant; equal ones are shared."""
        digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        key = f"const_{array.dtype}_{'x'.join(map(str, array.shape))}_{digest}"
        if key not in self.constants:
            tensor = ir.tensor(array, name=key)
            self.constants[key] = ir.Value(
                name=key,
                type=ir.TensorType(tensor.dtype),
                shape=ir.Shape(list(array.shape)),
                const_value=tensor,
            )
        return self.constants[key]

    def ints(self, *values: int) -> ir.Value:
        """Add a 1-D int64 constant."""
        return self.constant(np.array(values, np.int64))

    def ops(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> tuple[ir.Value, ...]:
        """Add a node and return its outputs."""
        name = self._name(op)
        results = [ir.Value(name=f"{name}.{i}") for i in range(outputs)]
        attrs = [ir.convenience.convert_attribute(k, v) for k, v in attributes.items()]
        self.nodes.append(ir.Node(domain, op, list(inputs), attrs, outputs=results, name=name))
        return tuple(results)

    def op(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        domain: str = "",
        dtype: ir.DataType | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """Add a node with one output."""
        (result,) = self.ops(op, inputs, 1, domain, **attributes)
        if dtype is not None:
            result.dtype = dtype
        return result

    def add_bias(self, y: ir.Value, bias: ir.Value) -> ir.Value:
        """Return y + bias; a product that takes a bias takes it in."""
        node = y.producer()
        if node is None or node.op_type != "MatMulIntegerToFloat" or len(node.inputs) > 6:
            return self.op("Add", [y, bias])
        node.resize_inputs(7)
        node.replace_input_with(6, bias)
        return y

    def choose(
        self, condition: ir.Value, then: Callable[[], ir.Value], other: Callable[[], ir.Value]
    ) -> ir.Value:
        """Add an If whose branches write their nodes themselves and read the outer graph."""
        branches = {}
        for key, write in (("then_branch", then), ("else_branch", other)):
            outer, self.nodes = self.nodes, []
            result = write()
            graph = ir.Graph([], [result], nodes=self.nodes, name=self._name(key))
            branches[key] = ir.AttrGraph(key, graph)
            self.nodes = outer
        name = self._name("If")
        output = ir.Value(name=f"{name}.0")
        attributes = list(branches.values())
        self.nodes.append(ir.Node("", "If", [condition], attributes, outputs=[output], name=name))
        return output

    def shared(
        self, op: str, x: ir.Value, outputs: int, others: Sequence[ir.Value] = ()
    ) -> tuple[ir.Value, ...]:
        """Add `op(x, others)` once for all who ask for it."""
        key = (op, str(x.name))
        if key not in self._shared:
            self._shared[key] = self.ops(op, [x, *others], outputs)
        return self._shared[key]

    def model(
        self, outputs: Sequence[tuple[str, ir.Value, Sequence[int | str]]], name: str
    ) -> ir.Model:
        """Close the graph; weights are still placeholders."""
        results = []
        for output_name, value, shape in outputs:
            value.name = output_name
            value.type = ir.TensorType(ir.DataType.FLOAT)
            value.shape = ir.Shape(list(shape))
            results.append(value)
        graph = ir.Graph(
            self.inputs,
            results,
            nodes=self.nodes,
            initializers=[*self.values.values(), *self.constants.values()],
            opset_imports={"": OPSET, "com.microsoft": 1},
            name=name,
        )
        return ir.Model(graph, ir_version=10, producer_name="edge-lra")
