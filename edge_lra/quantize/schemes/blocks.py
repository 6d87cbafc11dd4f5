"""Integers in blocks of 32, or of 64 where int4 gives a linear 8 bits, with a scale each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.affine import BITS as AFFINE_BITS
from edge_lra.quantize.affine import AffineWeight
from edge_lra.quantize.blockwise import BLOCK
from edge_lra.quantize.digits import Rounding
from edge_lra.quantize.readings import Known
from edge_lra.quantize.schemes.base import NOTHING, EachAlone, Named
from edge_lra.quantize.schemes.extra import plus, with_extra
from edge_lra.quantize.stored import (
    BlockWeight,
    survival_of,
)
from edge_lra.quantize.tables import WORD_BLOCK, block_rows, int4_rows, int8_rows
from edge_lra.weights import Source

FINER_BITS = 8  # of a linear in blocks that is worth more than 4
FINER_BLOCK = 64  # of int4's linears in 8 bits, where it divides their width


class Blockwise(EachAlone):
    """Weights in blocks of 32 with a scale each, int8 embedding rows or those of a tied head.

    Activations stay float in the graph; MatMulNBits rounds them by blocks too (accuracy level 4),
    which no far-reaching channel can spoil for the others, so nothing is smoothed in an encoder.
    In a decoder channels reach much further, and it halves the error.
    """

    name: str
    bits: int
    smooths = False
    compensates = compensates_decoders = False
    calibrates = smooths_head = True
    min_onnxruntime: str
    decoder_min_onnxruntime: str
    # Accuracy level 4 leaves it to the kernel how it rounds activations: up to 2e-2 was found
    # between processors on outputs of about 5.
    kernel_spread = 4e-3

    def chooses_bits(self, weight: Source) -> bool:
        """Say whether there are more bits than the scheme's to have."""
        return self.bits < FINER_BITS

    def linear(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        name: str,
        weight: Source,
        known: Known | None = None,
    ) -> ir.Value:
        """Multiply by packed blocks, (out, blocks, bytes)."""
        known = known or Known()
        if known.finer:
            stored = finer_weight(name, weight)
        else:
            coupling = known.coupling if self.compensates else None
            stored = BlockWeight(name, weight, self.bits, survival_of(weight), coupling)
        values, scale, *factors = graph.stored(with_extra(stored, known))
        y = block_product(graph, x, weight, [values, scale], stored.bits, stored.block)
        return plus(graph, x, y, factors)

    def embedding(
        self,
        graph: GraphBuilder,
        ids: ir.Value,
        name: str,
        table: Source,
        words: bool = False,
    ) -> ir.Value:
        """Gather int8 rows and their scales."""
        return int8_rows(graph, ids, name, table)

    def tied_embedding(
        self, graph: GraphBuilder, ids: ir.Value, name: str, head: Source
    ) -> ir.Value | None:
        """Gather rows of the head's 8-bit blocks where its width is whole blocks."""
        if head.shape[1] % BLOCK:
            return None
        weight = self.head_weight(name, head)
        values, scale = graph.stored(weight)
        return block_rows(graph, ids, values, scale, head, weight.block)

    def head_weight(self, name: str, head: Source) -> BlockWeight:
        """Return what is stored for a decoder's head."""
        return BlockWeight(name, head, FINER_BITS, survival_of(head))


class Int8WeightOnly(Blockwise):
    """8 bits a weight in blocks: llama.cpp's Q8_0 accuracy, quick for one token at a time."""

    name = "int8-weight-only"
    bits = FINER_BITS
    min_onnxruntime = decoder_min_onnxruntime = "1.23.0"  # 1.22 runs 8 bits on x86 alone


class Int4(Blockwise):
    """4 bits a weight in blocks: half the size, and an error that needs a look.

    Linears keep 8 where calibration finds that a byte gains most by it. A decoder's head keeps 8:
    it is a quarter of a small model's error. The others of a decoder have zero points.
    """

    name = "int4"
    bits = 4
    compensates = compensates_decoders = True
    # 1.23 is the first to run 8 bits, and to gather 4 from bytes, on every processor.
    min_onnxruntime = decoder_min_onnxruntime = Int8WeightOnly.min_onnxruntime

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
        known: Mapping[str, Known] = NOTHING,
    ) -> list[ir.Value]:
        """Multiply by each alone, in 8 bits by the head."""
        found = []
        for name, weight in weights:
            one = known.get(name, Known())
            if head or one.finer:
                stored = finer_weight(name, weight)
                values, bits, block = graph.stored(stored), stored.bits, stored.block
            else:
                affine = AffineWeight(name, weight, survival_of(weight), one.coupling)
                values, bits, block = graph.stored(affine), AFFINE_BITS, BLOCK
            found.append(block_product(graph, x, weight, values, bits, block))
        return found

    def head_weight(self, name: str, head: Source) -> BlockWeight:
        """Return what is stored for a decoder's head."""
        return finer_weight(name, head)

    def embedding(
        self,
        graph: GraphBuilder,
        ids: ir.Value,
        name: str,
        table: Source,
        words: bool = False,
    ) -> ir.Value:
        """Gather words in 4 bits where their width is whole blocks, other rows in int8."""
        if not words or table.shape[1] % WORD_BLOCK:
            return int8_rows(graph, ids, name, table)
        return int4_rows(graph, ids, name, table)


def finer_weight(name: str, weight: Source) -> BlockWeight:
    """Return 8-bit blocks of 64 where the weight divides into them: 8 bits leave little to lose.

    No wider ones: kernels round activations by the same blocks, and those lose more (SmolLM2-135M,
    mean KL by activations alone: .004 in blocks of 32, .009 of 128).
    """
    block = BLOCK if weight.shape[1] % FINER_BLOCK else FINER_BLOCK
    return BlockWeight(name, weight, FINER_BITS, survival_of(weight), block=block)


def block_product(
    graph: GraphBuilder,
    x: ir.Value,
    weight: Source,
    values: Sequence[ir.Value],
    bits: int,
    block: int,
) -> ir.Value:
    """Multiply by packed blocks, (out, blocks, bytes); values has their scales too."""
    out, width = weight.shape
    sizes: dict[str, Any] = {"K": width, "N": out, "bits": bits, "block_size": block}
    return graph.op("MatMulNBits", [x, *values], "com.microsoft", accuracy_level=4, **sizes)
