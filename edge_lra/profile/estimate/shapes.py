"""Shapes of every value of a graph for inputs of one shape, and which nodes run.

Standard operators follow onnx's own inference, a node at a time; the few of onnxruntime have
rules here. Small integers are computed on the way, so shapes that depend on them are known and of
an `If` the branch that a batch without padding takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_lra.errors import EdgeError

MICROSOFT = "com.microsoft"
LARGEST_VALUE = 1 << 16  # elements of a value that is computed: a mask of 8x512 has 4096
Dims = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor's shape and type, and its content where that is small and known.

    Attributes:
        weight: whether it is stored in the bundle.
        known: its content.
    """

    shape: Dims
    dtype: np.dtype[Any]
    weight: bool = False
    known: np.ndarray | None = None

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class Step:
    """A node that runs, with what it reads and writes; None for an input left out."""

    node: Any
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute's value."""
        return _attribute(self.node, name, default)


@dataclass
class Walk:
    """The nodes in the order they run, and all values by name."""

    opsets: Mapping[str, int]
    values: dict[str, Value]
    steps: list[Step] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)  # branches whose condition is not known
    aliases: dict[str, str] = field(default_factory=dict)  # an `If`'s output: its branch's value


def walk_graph(model: Any, inputs: Mapping[str, Value]) -> Walk:
    """Return the nodes that run for these inputs, with all shapes.

    Args:
        model: an onnx ModelProto; weights need no content.
        inputs: a value for every graph input.

    Raises:
        EdgeError: an input is missing, or an operator's shape is not known.
    """
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    walk = Walk(opsets, dict(inputs))
    missing = [i.name for i in model.graph.input if i.name not in inputs]
    if missing:
        raise EdgeError(f"{missing[0]}: found no shape for this graph input; export again")
    _walk(model.graph, walk)
    return walk


def _walk(graph: Any, walk: Walk) -> None:
    for tensor in graph.initializer:
        walk.values[tensor.name] = _stored(tensor)
    for node in graph.node:
        inputs = tuple(walk.values[name] if name else None for name in node.input)
        if node.op_type == "If":
            branch = _branch(node, inputs, walk)
            _walk(branch, walk)
            outputs = tuple(walk.values[value.name] for value in branch.output)
            inside = (value.name for value in branch.output)
            walk.aliases.update(zip(node.output, inside, strict=True))
        else:
            outputs = tuple(_outputs(node, inputs, walk))
        walk.values.update(zip(node.output, outputs, strict=False))
        walk.steps.append(Step(node, inputs, outputs))


def _stored(tensor: Any) -> Value:
    import onnx
    from onnx import helper, numpy_helper

    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    inside = tensor.data_location != onnx.TensorProto.EXTERNAL
    known = numpy_helper.to_array(tensor) if inside else None
    return Value(tuple(tensor.dims), dtype, weight=True, known=known)


def _branch(node: Any, inputs: Sequence[Value | None], walk: Walk) -> Any:
    condition = inputs[0].known if inputs[0] is not None else None
    if condition is None:
        walk.guessed.append(node.name)
    taken = "then_branch" if condition is None or bool(condition) else "else_branch"
    return _attribute(node, taken, None)


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _outputs(node: Any, inputs: Sequence[Value | None], walk: Walk) -> Iterator[Value]:
    if node.op_type == "Shape" and inputs[0] is not None:
        start, end = _attribute(node, "start", 0), _attribute(node, "end", None)
        known = np.array(inputs[0].shape[start:end], np.int64)
        yield Value(known.shape, known.dtype, known=known)
    elif node.domain == MICROSOFT or node.op_type in RULES:
        if node.op_type not in RULES:
            raise EdgeError(
                f"{node.name}: found the operator {node.op_type}, expected one that can be "
                "estimated; measure instead, with --target"
            )
        yield from RULES[node.op_type](node, [value for value in inputs if value is not None])
    elif _is_small(inputs):
        for array in _compute(node, inputs, walk.opsets):
            yield Value(array.shape, array.dtype, known=array)
    else:
        yield from _infer(node, inputs, walk.opsets)


def _is_small(inputs: Sequence[Value | None]) -> bool:
    return all(v is None or (v.known is not None and v.elements <= LARGEST_VALUE) for v in inputs)


def _compute(
    node: Any, inputs: Sequence[Value | None], opsets: Mapping[str, int]
) -> list[np.ndarray]:
    """Run one node on known values by onnx's reference implementation."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    feeds = {
        name: value.known for name, value in zip(node.input, inputs, strict=True) if value and name
    }
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype), None
        )
        for name, array in feeds.items()
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output
    ]
    graph = helper.make_graph([node], "node", infos, outputs)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    found = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, feeds)
    return [np.asarray(array) for array in found]


def _infer(node: Any, inputs: Sequence[Value | None], opsets: Mapping[str, int]) -> Iterator[Value]:
    """Ask onnx for one node's output shapes."""
    import onnx
    from onnx import helper, numpy_helper, shape_inference

    types, data = {}, {}
    for name, value in zip(node.input, inputs, strict=True):
        if value is None:
            continue
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        types[name] = helper.make_tensor_type_proto(kind, value.shape)
        if value.known is not None and value.elements <= LARGEST_VALUE:
            data[name] = numpy_helper.from_array(value.known, name)
    schema = onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    found = shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imports)
    for name in filter(None, node.output):
        kind = found[name].tensor_type
        dims = [int(d.dim_value) if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        if -1 in dims:
            raise EdgeError(
                f"{node.name}: the output shape of {node.op_type} depends on the input's content, "
                "expected a fixed one; measure instead, with --target"
            )
        yield Value(tuple(dims), np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)))


# ---- onnxruntime's operators ---------------------------------------------------------------

FLOAT = np.dtype(np.float32)
Rule = Callable[[Any, Sequence[Value]], list[Value]]


def _like_first(node: Any, inputs: Sequence[Value]) -> list[Value]:
    return [Value(inputs[0].shape, inputs[0].dtype) for name in node.output[:1] if name]


def _skip_norm(node: Any, inputs: Sequence[Value]) -> list[Value]:
    return [Value(inputs[0].shape, inputs[0].dtype) for _ in node.output]


def _product(node: Any, inputs: Sequence[Value]) -> list[Value]:
    left, right = inputs[0].shape, inputs[1].shape
    if _attribute(node, "transB", 0):
        right = (*right[:-2], right[-1], right[-2])
    if _attribute(node, "transA", 0):
        left = (*left[:-2], left[-1], left[-2])
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    return [Value((*batch, left[-2], right[-1]), FLOAT)]


def _narrow_product(node: Any, inputs: Sequence[Value]) -> list[Value]:
    return [Value((*inputs[0].shape[:-1], _attribute(node, "N", 0)), FLOAT)]


def _gathered_blocks(node: Any, inputs: Sequence[Value]) -> list[Value]:
    ids, scale = inputs[1], inputs[2]
    width = scale.shape[-1] * int(_attribute(node, "block_size", 128))
    return [Value((*ids.shape, width), scale.dtype)]


def _attention(node: Any, inputs: Sequence[Value]) -> list[Value]:
    query, value = inputs[0].shape, inputs[2].shape
    return [Value((*query[:2], value[-1]), FLOAT)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("BiasGelu", "FastGelu", "QuickGelu"), _like_first),
    **dict.fromkeys(("SkipLayerNormalization",), _skip_norm),
    **dict.fromkeys(
        ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "FusedMatMul", "FusedGemm"), _product
    ),
    "MatMulNBits": _narrow_product,
    "GatherBlockQuantized": _gathered_blocks,
    "MultiHeadAttention": _attention,
}
