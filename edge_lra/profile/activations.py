"""The planned activation peak: how much of a graph's intermediate values is alive at once.

Shapes follow from one batch of so many tokens; a value lives from the node that makes it to its
last reader, nodes running in the order they were written. onnxruntime runs them in another order,
fuses some, and its arena rounds sizes up: on MiniLM 1x128 it asks for 1.88 MiB at most where the
plan says 1.74 (as written, nothing fused), and kernels' scratch buffers come on top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.profile.latencies import Shape

if TYPE_CHECKING:
    import onnx

SMALL = 1024  # elements of a value that is computed while planning: shapes and ranges
ROUNDS = 64  # of shape inference: each folds what the last one made known
MICROSOFT = "com.microsoft"
# Operators outside the standard whose first output has the shape of their first input.
LIKE_THEIR_INPUT = frozenset({"MultiHeadAttention", "GroupQueryAttention", "FastGelu", "QuickGelu"})
# onnxruntime gives their outputs the buffer of their input.
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


def planned_peak_mib(bundle: Path, shape: Shape, adapter: str | None = None) -> float | None:
    """Return the peak of live activations in MiB; None without onnx, or for an unknown operator.

    Args:
        bundle: the bundle's folder.
        shape: (batch, tokens).
        adapter: of a factored bundle; None for its default, or the first.
    """
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    peak = planned_peak_bytes(model, input_shapes(bundle, shape, adapter), bundle)
    return None if peak is None else peak / 2**20


def input_shapes(bundle: Path, shape: Shape, adapter: str | None) -> dict[str, tuple[int, ...]]:
    """Return the shape of every graph input of a bundle."""
    from edge_lra.agent.inputs import all_inputs

    return {name: value.shape for name, value in all_inputs(bundle, shape, adapter).items()}


def planned_peak_bytes(
    model: onnx.ModelProto, sizes: Mapping[str, tuple[int, ...]], name: Path | str = "the graph"
) -> int | None:
    """Return the peak in bytes; None where an operator's output shape is not known.

    Args:
        model: the graph; weights may be left out.
        sizes: the shape of every graph input.
        name: of the graph, for errors.

    Raises:
        EdgeError: an input has no shape.
    """
    shaped = _with_shapes(model, sizes, name)
    try:
        return _peak(model.graph, shaped.graph, {})
    except KeyError:
        return None


def _with_shapes(
    model: onnx.ModelProto, sizes: Mapping[str, tuple[int, ...]], name: Path | str
) -> onnx.ModelProto:
    """Return a copy in which inference finds shapes; it no longer computes the same."""
    import onnx

    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    for node in shaped.graph.input:
        if node.name not in sizes:
            raise EdgeError(f"{name}: found no size for its input {node.name!r}")
        dims = node.type.tensor_type.shape.dim
        for dim, size in zip(dims, sizes[node.name], strict=True):
            dim.dim_value = size
    for graph in _graphs(shaped.graph):
        for node in graph.node:
            if node.domain == MICROSOFT and node.op_type in LIKE_THEIR_INPUT:
                node.domain, node.op_type = "", "Identity"
                del node.input[1:], node.output[1:], node.attribute[:]
    known: dict[str, Any] = {}
    for _ in range(ROUNDS):
        shaped = onnx.shape_inference.infer_shapes(shaped, data_prop=True)
        if not _fold(shaped.graph, known):
            break
        for graph in _graphs(shaped.graph):
            _forget_symbols(graph)
    return shaped


def _forget_symbols(graph: onnx.GraphProto) -> None:
    """Drop shapes that are not numbers: inference does not look at them again."""
    kept = [value for value in graph.value_info if _is_known(value)]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in _inside(node):
            yield from _graphs(inner)


def _inside(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.HasField("g")] + [
        graph for a in node.attribute for graph in a.graphs
    ]


def _fold(graph: onnx.GraphProto, known: dict[str, Any]) -> bool:
    """Replace nodes that compute shapes by their results; say whether there were any.

    Inference does not follow Range and its like through values that are computed.
    """
    from onnx import numpy_helper

    for tensor in graph.initializer:
        inside = not tensor.external_data and math.prod(tensor.dims) <= SMALL
        if tensor.name not in known and inside:
            known[tensor.name] = numpy_helper.to_array(tensor)
    shapes = _shapes(graph)
    folded = []
    for node in graph.node:
        values = _compute(node, known, shapes)
        if values is not None:
            folded.append(node)
            known.update(zip(node.output, values, strict=True))
    for node in folded:
        graph.initializer.extend(numpy_helper.from_array(known[o], o) for o in node.output)
        graph.node.remove(node)
    return bool(folded)


def _compute(
    node: onnx.NodeProto, known: Mapping[str, Any], shapes: Mapping[str, _Value]
) -> list[Any] | None:
    """Return a node's outputs where its inputs are known and small."""
    from onnx.reference import ReferenceEvaluator

    if node.domain or _inside(node):
        return None
    if node.op_type == "Shape" and node.input[0] in shapes:
        limits = {a.name: a.i for a in node.attribute}
        dims = shapes[node.input[0]].dims
        return [np.array(dims[limits.get("start", 0) : limits.get("end", len(dims))], np.int64)]
    if not node.input or any(name and name not in known for name in node.input):
        return None
    feeds = {name: known[name] for name in node.input if name}
    values = [np.asarray(value) for value in ReferenceEvaluator(node).run(None, feeds)]
    return values if all(value.size <= SMALL for value in values) else None


class _Value(NamedTuple):
    """Dimensions and bytes of a value."""

    dims: tuple[int, ...]
    size: int


def _shapes(graph: onnx.GraphProto) -> dict[str, _Value]:
    """Return what inference found of a graph's own values, where it is a number throughout."""
    from onnx import helper

    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if not _is_known(value):
            continue
        kind = value.type.tensor_type
        dims = tuple(int(d.dim_value) for d in kind.shape.dim)
        itemsize = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
        found[value.name] = _Value(dims, math.prod(dims) * itemsize)
    for tensor in graph.initializer:
        dims = tuple(tensor.dims)
        itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        found[tensor.name] = _Value(dims, math.prod(dims) * itemsize)
    return found


def _is_known(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)


def _peak(graph: onnx.GraphProto, shaped: onnx.GraphProto, outer: Mapping[str, _Value]) -> int:
    """Return the largest sum of live values of a graph; KeyError where a shape is unknown."""
    values = {**outer, **_shapes(shaped)}
    inner = {tuple(node.output[:1]): _inside(node) for node in shaped.node}
    owner, last = _lifetimes(graph)
    sizes: dict[str, int] = {}
    live = peak = 0
    for place, node in enumerate(graph.node):
        made = [name for name in node.output if name and owner[name] == name]
        sizes |= {name: values[name].size for name in made}
        inside = [
            _peak(body, shape, values)
            for body, shape in zip(
                _inside(node), inner.get(tuple(node.output[:1]), ()), strict=True
            )
        ]
        # A branch's result becomes the If's: it is not there twice.
        peak = max(peak, live + max([sum(sizes[name] for name in made), *inside]))
        live += sum(sizes[name] for name in made)
        dead = [name for name in sizes if last[name] <= place]
        live -= sum(sizes.pop(name) for name in dead)
    return peak


def _lifetimes(graph: onnx.GraphProto) -> tuple[dict[str, str], dict[str, int]]:
    """Return whose buffer each value is in, and the last node that reads that buffer."""
    owner: dict[str, str] = {}
    last: dict[str, int] = {}
    for place, node in enumerate(graph.node):
        for name in _reads(node):
            if name in owner:
                last[owner[name]] = place
        view = node.op_type in VIEWS and node.input[0] in owner
        for name in node.output:
            owner[name] = owner[node.input[0]] if view else name
            last.setdefault(owner[name], place)
    for output in graph.output:
        if output.name in owner:
            last[owner[output.name]] = len(graph.node)
    return owner, last


def _reads(node: onnx.NodeProto) -> set[str]:
    """Return what a node reads, for itself and for the graphs inside it."""
    names = set(node.input)
    for graph in _inside(node):
        names |= {output.name for output in graph.output}
        names.update(*(_reads(inner) for inner in graph.node))
    return names
