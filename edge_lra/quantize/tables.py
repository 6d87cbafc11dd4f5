"""Embedding tables: int8 rows, those of a head's blocks, and an encoder's words in 4 bits.

Words are most of a small encoder's weights. MiniLM, 64 texts' mean-pooled hidden states against
float, all linears in float32: least cosine and mean 1 - cosine, by how many channels share a scale.

    | block | scale   | MB   | least | mean   |
    |-------|---------|------|-------|--------|
    | 128   | float32 | 6.23 | .946  | .00288 |
    | 32    | float16 | 6.59 | .987  | .00128 |
    | 16    | float16 | 7.33 | .996  | .00061 |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.blockwise import BLOCK, Blocks, in_blocks, pack
from edge_lra.quantize.compensate.scales import block_scales
from edge_lra.quantize.pairsafe import quantize_rows
from edge_lra.quantize.stored import Int8Weight
from edge_lra.weights import Source, Spec

Array = npt.NDArray[Any]
WORD_BLOCK = 16  # channels that share a scale; GatherBlockQuantized takes none smaller
BITS = 4
HALF = 1 << (BITS - 1)


def quantize_words(rows: Array) -> Blocks:
    """Round rows to 4 bits, each block with the float16 scale of the least squared error.

    Args:
        rows: (words, width), the width a multiple of `WORD_BLOCK`.
    """
    scale = block_scales(rows, BITS, np.ones(rows.shape[1]), WORD_BLOCK).astype(np.float16)
    step = scale.astype(np.float64)[..., None]
    # A block whose scale float16 rounds to 0 has no integers to choose from.
    integers = np.rint(in_blocks(rows, WORD_BLOCK) / np.where(step == 0, np.inf, step))
    shifted = (np.clip(integers, -HALF, HALF - 1) + HALF).astype(np.uint8)
    return Blocks(pack(shifted, BITS), scale)


@dataclass(frozen=True)
class WordRows:
    """Packed integers and block scales of an embedding table, from one pass over its rows."""

    name: str
    source: Source

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the packed integers' and the scales' place."""
        rows, width = self.source.shape
        return Spec(f"{self.name}.int{BITS}", (rows, width * BITS // 8), "uint8"), Spec(
            f"{self.name}.scale", (rows, width // WORD_BLOCK), "float16"
        )

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield both tensors' rows as they come."""
        values, scale = self.specs
        for start, rows, _ in self.source.rounding_pairs():
            part = quantize_words(rows)
            yield values.name, start, part.packed.reshape(len(rows), -1)
            yield scale.name, start, part.scale


def int8_rows(graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
    """Gather int8 rows and their scales, (.., width) float32."""
    rows, scale = graph.stored(Int8Weight(name, table, quantize_rows, transpose=False))
    picked = graph.op("Cast", [graph.op("Gather", [rows, ids])], to=int(ir.DataType.FLOAT))
    return graph.op("Mul", [picked, graph.op("Gather", [scale, ids])])


def block_rows(
    graph: GraphBuilder,
    ids: ir.Value,
    values: ir.Value,
    scale: ir.Value,
    table: Source,
    block: int = BLOCK,
) -> ir.Value:
    """Gather rows of a linear's 8-bit blocks (rows, blocks, block), (.., width) float32."""
    rows, width = table.shape
    parts = [graph.view(values, (rows, width)), ids, graph.view(scale, (rows, width // block))]
    axes: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1, "block_size": block}
    return graph.op("GatherBlockQuantized", parts, "com.microsoft", bits=8, **axes)


def int4_rows(graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
    """Gather 4-bit rows times their blocks' scales, (.., width) float32."""
    rows, scale = graph.stored(WordRows(name, table))
    axes: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1, "block_size": WORD_BLOCK}
    inputs = [rows, ids, scale]
    picked = graph.op("GatherBlockQuantized", inputs, "com.microsoft", bits=4, **axes)
    return graph.op("Cast", [picked], to=int(ir.DataType.FLOAT))
