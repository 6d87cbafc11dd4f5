"""What the rules look at: a value's maker, its constant, its static axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def made_by(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """Return the node that makes a value, if it is one of these standard operators."""
    node = value.producer() if value is not None else None
    known = node is not None and node.domain == "" and node.op_type in operators
    return node if known else None


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """Return a value's constant, or None."""
    tensor = value.const_value if value is not None else None
    return None if tensor is None else tensor.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """Return the number that a constant of one entry holds, or None."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def number_beside(node: ir.Node) -> tuple[float, ir.Value] | None:
    """Return the number and the other operand of a node of two inputs, or None."""
    left, right = node.inputs
    for number, other in ((right, left), (left, right)):
        found = scalar(number)
        if found is not None and other is not None:
            return found, other
    return None


def perm(node: ir.Node) -> tuple[int, ...]:
    """Return the permutation of a Transpose."""
    attribute = node.attributes.get("perm")
    return tuple(attribute.as_ints()) if attribute is not None else ()


def axis(node: ir.Node, default: int) -> int:
    """Return a node's axis."""
    attribute = node.attributes.get("axis")
    return attribute.as_int() if attribute is not None else default


def static(value: ir.Value, place: int) -> int | None:
    """Return the size of an axis, or None where it is free or unknown."""
    if value.shape is None or not -len(value.shape) <= place < len(value.shape):
        return None
    size = value.shape[place]
    return size if isinstance(size, int) else None


def rank(value: ir.Value | None) -> int | None:
    """Return the number of axes, or None where it is unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads a value which is no output of the graph, or None."""
    readers = value.consumers()
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def insert(
    before: ir.Node,
    operator: str,
    inputs: Sequence[ir.Value | None],
    shape: Iterable[Any] | None,
    domain: str = "",
    **attributes: Any,
) -> ir.Value:
    """Put a float node with one output before another; return its output."""
    attrs = [ir.convenience.convert_attribute(name, value) for name, value in attributes.items()]
    node = ir.Node(domain, operator, inputs, attrs, num_outputs=1)
    result = node.outputs[0]
    result.type = ir.TensorType(ir.DataType.FLOAT)
    result.shape = None if shape is None else ir.Shape(list(shape))
    assert before.graph is not None
    before.graph.insert_before(before, node)
    return result


def add_ints(model: ir.Model, name: str, values: Sequence[int]) -> ir.Value:
    """Return an int64 initializer, one for all who ask by this name."""
    if name not in model.graph.initializers:
        tensor = ir.tensor(np.array(values, np.int64), name=name)
        shape, dtype = ir.Shape([len(values)]), ir.TensorType(ir.DataType.INT64)
        value = ir.Value(name=name, type=dtype, shape=shape, const_value=tensor)
        model.graph.register_initializer(value)
    return model.graph.initializers[name]


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let every reader of a value, and the graph's outputs, have another instead."""
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
