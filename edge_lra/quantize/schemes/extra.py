"""Float factors beside a rounded product."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.readings import Known
from edge_lra.quantize.stored import (
    BlockWeight,
    Int8Weight,
    RestoredWeight,
)
from edge_lra.weights import Stored


def with_extra(weight: Int8Weight | BlockWeight, known: Known) -> Stored:
    """Return the weight with factors that make up for its error, where they are asked for."""
    return weight if known.extra is None else RestoredWeight(weight, known.extra)


def plus(graph: GraphBuilder, x: ir.Value, y: ir.Value, factors: Sequence[ir.Value]) -> ir.Value:
    """Return y + x down up; y where there are no factors."""
    if not factors:
        return y
    down, up = factors
    return graph.op("Add", [y, graph.op("MatMul", [graph.op("MatMul", [x, down]), up])])
