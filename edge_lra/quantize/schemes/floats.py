"""Everything in float32."""

from __future__ import annotations

import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.readings import Known
from edge_lra.quantize.schemes.base import EachAlone
from edge_lra.weights import Dense, Source


class Float(EachAlone):
    """Keep every weight in float32."""

    name = "none"
    smooths = compensates = calibrates = smooths_head = compensates_decoders = False
    min_onnxruntime = decoder_min_onnxruntime = "1.20.0"
    kernel_spread = 0.0

    def chooses_bits(self, weight: Source) -> bool:
        """Return False: all are float32."""
        return False

    def linear(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        name: str,
        weight: Source,
        known: Known | None = None,
    ) -> ir.Value:
        """Multiply in float32."""
        return graph.op("MatMul", [x, graph.stored(Dense(name, weight, transpose=True))[0]])

    def embedding(
        self,
        graph: GraphBuilder,
        ids: ir.Value,
        name: str,
        table: Source,
        words: bool = False,
    ) -> ir.Value:
        """Gather float rows."""
        return graph.op("Gather", [graph.stored(Dense(name, table))[0], ids])
