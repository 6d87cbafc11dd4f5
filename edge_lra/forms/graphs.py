"""Small graphs of products as an encoder's bundle has them, to time a form where it will run."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from edge_lra.agent.graphs import WEIGHTS
from edge_lra.graph.builder import DTYPES, GraphBuilder
from edge_lra.quantize.readings import Known
from edge_lra.quantize.schemes import Scheme
from edge_lra.quantize.schemes.int8 import round_whole
from edge_lra.quantize.smooth import OUTLIERS
from edge_lra.weights import Dense, Source
from edge_lra.writer import plan_layout

STREAMED_MIB = 8  # of float32 weights in a graph: they come from memory, as a model's do
FEWEST, MOST = 2, 12
ROUNDED = 4
SPAN = (-1.0, 1.0)
Write = Callable[[GraphBuilder], Sequence[ir.Value]]


@dataclass(frozen=True)
class Small:
    """A graph without weights, and how often it holds what is to be timed."""

    model: ir.Model
    starts: tuple[int, ...]
    weights_bytes: int
    copies: int

    def request(self) -> dict[str, Any]:
        """Return what the agent is asked to run."""
        model = base64.b64encode(ir.to_proto(self.model).SerializeToString()).decode()
        starts = list(self.starts)
        return {"model": model, "weights_bytes": self.weights_bytes, "starts": starts}


def copies_of(shape: Sequence[int]) -> int:
    """Return how many weights (out, in) a graph holds, so that none stays in a core's cache."""
    mib = shape[0] * shape[1] * 4 / 2**20
    return max(FEWEST, min(MOST, round(STREAMED_MIB / mib)))


def product_graph(scheme: Scheme, source: Source, rows: int, static: bool) -> Small:
    """Return products of x (1, rows, in) with weights of one shape, each with its bias.

    In int8 they share one rounding of x.

    Args:
        scheme: of the form.
        source: of a weight (out, in); it is not read.
        rows: of x.
        static: int8 rounds x by calibrated ranges.
    """
    count = copies_of(source.shape)

    def write(graph: GraphBuilder) -> list[ir.Value]:
        x = graph.input("x", "float32", (1, rows, source.shape[1]))
        return [product(graph, scheme, x, f"w{i}", source, static) for i in range(count)]

    return small_graph(write, (1, rows, source.shape[0]), count)


def product(
    graph: GraphBuilder, scheme: Scheme, x: ir.Value, name: str, source: Source, static: bool
) -> ir.Value:
    """Write one linear."""
    y = scheme.linear(graph, x, name, source, Known(SPAN if static else None))
    bias = graph.stored(Dense(f"{name}.bias", replace(source, shape=source.shape[:1])))[0]
    return graph.add_bias(y, bias)


def rounding_graph(width: int, rows: int, static: bool) -> Small:
    """Return what rounds x (1, rows, width) for linears in int8."""

    def write(graph: GraphBuilder) -> list[ir.Value]:
        values = [graph.input(f"x{i}", "float32", (1, rows, width)) for i in range(ROUNDED)]
        return [round_whole(graph, x, SPAN if static else None)[0] for x in values]

    return small_graph(write, (1, rows, width), ROUNDED, "uint8")


def outlier_graph(scheme: Scheme, down: Source, rows: int, static: bool) -> Small:
    """Return what keeps a feed-forward block's outliers in float32 beside int8.

    Args:
        scheme: int8's.
        down: the down projection's weight (hidden, inner).
        rows: of x (1, rows, hidden).
        static: int8 rounds x by calibrated ranges.
    """
    hidden, inner = down.shape
    few = min(OUTLIERS, inner)

    def write(graph: GraphBuilder) -> list[ir.Value]:
        x = graph.input("x", "float32", (1, rows, hidden))
        found = []
        for i in range(FEWEST):
            picked = product(graph, scheme, x, f"up{i}", replace(down, shape=(few, hidden)), static)
            picked = graph.op("Gelu", [picked], approximate="tanh")
            weight = replace(down, shape=(hidden, few))
            stored = graph.stored(Dense(f"down{i}", weight, transpose=True))[0]
            found.append(graph.op("Add", [graph.op("MatMul", [picked, stored]), x]))
        return found

    return small_graph(write, (1, rows, hidden), FEWEST)


def small_graph(write: Write, shape: tuple[int, ...], copies: int, dtype: str = "float32") -> Small:
    """Return a graph whose weights are to be filled by who runs it.

    Args:
        write: writes the nodes; returns the outputs.
        shape: of each output.
        copies: of what is to be timed.
        dtype: of each output.
    """
    graph = GraphBuilder()
    outputs = [(f"y{i}", value, shape) for i, value in enumerate(write(graph))]
    model = graph.model(outputs, "small")
    for value in model.graph.outputs:
        value.type = ir.TensorType(DTYPES[dtype])
    layout = plan_layout([spec for weight in graph.weights for spec in weight.specs])
    for spec in (spec for weight in graph.weights for spec in weight.specs):
        graph.values[spec.name].const_value = ir.ExternalTensor(
            WEIGHTS,
            offset=layout.offsets[spec.name],
            length=spec.nbytes,
            dtype=DTYPES[spec.dtype],
            shape=ir.Shape(list(spec.shape)),
            name=spec.name,
        )
    return Small(model, tuple(layout.offsets.values()), layout.size, copies)
