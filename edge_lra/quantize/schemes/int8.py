"""Integers of 8 bits with a scale a channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.compensate import Coupling, compensate_pair_safe
from edge_lra.quantize.digits import Rounding, multiply_rows, round_rows
from edge_lra.quantize.pairsafe import Quantized, quantize_pair_safe, quantize_rows
from edge_lra.quantize.readings import Known
from edge_lra.quantize.schemes.base import NOTHING, Named
from edge_lra.quantize.schemes.extra import plus, with_extra
from edge_lra.quantize.stored import (
    Int8Weight,
    JoinedWeight,
    survival_of,
)
from edge_lra.quantize.tables import int8_rows
from edge_lra.weights import Array, Source


class Int8:
    """u8 activations, s8 weights with a scale a channel, int8 embedding rows.

    Encoders: activations rounded by the range that calibration found in text, or as they come, in
    the standard MatMulInteger form; onnxruntime fuses it to MatMulIntegerToFloat, and matmuls that
    read the same tensor share its DynamicQuantizeLinear.

    Decoders: each row with a scale of its own, in one digit or two, and one matmul for all weights
    that read it. A product by blocks (MatMulNBits) takes 1.25 to 1.5 times as long for a token
    as one digit's or two's, and 4 or 2 times for a prompt (VNNI).
    """

    name = "int8"
    smooths = compensates = calibrates = True
    # SmolLM2-135M, mean KL: .0042 without and .0048 with; a row's one scale suffers from it.
    smooths_head = False
    compensates_decoders = False
    min_onnxruntime = decoder_min_onnxruntime = "1.20.0"
    kernel_spread = 0.0  # every kernel gives the same integers

    def chooses_bits(self, weight: Source) -> bool:
        """Return False: all have 8."""
        return False

    def one_scale(self, weight: Source) -> bool:
        """Return True."""
        return True

    def linear(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        name: str,
        weight: Source,
        known: Known | None = None,
    ) -> ir.Value:
        """Quantize x once for all its readers, multiply in int32, scale back."""
        known = known or Known()
        quantize = by_coupling(known.coupling) if known.coupling else quantize_pair_safe
        stored = Int8Weight(name, weight, quantize, True, survival_of(weight))
        wq, w_scale, *factors = graph.stored(with_extra(stored, known))
        return plus(graph, x, integer_product(graph, x, wq, w_scale, known.span), factors)

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
        known: Mapping[str, Known] = NOTHING,
    ) -> list[ir.Value]:
        """Round x by rows, multiply by all weights at once, take the product apart."""
        y = self.joined(graph, x, weights, rounding)
        if len(weights) == 1:
            return [y]
        sizes = graph.ints(*(weight.shape[0] for _, weight in weights))
        return list(graph.ops("Split", [y, sizes], len(weights), axis=-1))

    def joined(
        self, graph: GraphBuilder, x: ir.Value, weights: Named, rounding: Rounding
    ) -> ir.Value:
        """Round x by rows and multiply by all weights at once."""
        quantize = quantize_pair_safe if rounding.digits == 1 else quantize_rows
        parts = tuple(Int8Weight(n, w, quantize, True, survival_of(w)) for n, w in weights)
        stored = graph.stored(JoinedWeight(parts) if len(parts) > 1 else parts[0])
        return multiply_rows(graph, round_rows(graph, x, rounding), *stored)

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
        """Return None: head and embedding are stored apart, turned each its own way."""
        return None


def integer_product(
    graph: GraphBuilder,
    x: ir.Value,
    wq: ir.Value,
    w_scale: ir.Value,
    span: tuple[float, float] | None,
) -> ir.Value:
    """Return x times an int8 weight, x rounded by its span, or by each batch's own."""
    xq, x_scale, zero = round_whole(graph, x, span)
    if span is not None:
        inputs = [xq, wq, x_scale, w_scale, zero, None]
        return graph.op("MatMulIntegerToFloat", inputs, "com.microsoft")
    product = graph.op("MatMulInteger", [xq, wq, zero], dtype=ir.DataType.INT32)
    real = graph.op("Cast", [product], to=int(ir.DataType.FLOAT))
    return graph.op("Mul", [real, graph.op("Mul", [x_scale, w_scale])])


def round_whole(
    graph: GraphBuilder, x: ir.Value, span: tuple[float, float] | None
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return x as uint8, its scale and its zero point, once for all who ask."""
    if span is None:
        xq, scale, zero = graph.shared("DynamicQuantizeLinear", x, outputs=3)
        return xq, scale, zero
    scale, zero = (graph.constant(value) for value in steps(*span))
    (xq,) = graph.shared("QuantizeLinear", x, 1, [scale, zero])
    return xq, scale, zero


def steps(low: float, high: float) -> tuple[Array, Array]:
    """Return scale and zero point that take a range with 0 in it to 0 .. 255."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(high - low, 1e-12) / 255)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    return np.array(scale), np.array(zero)


def by_coupling(coupling: Callable[[], Coupling]) -> Callable[[Array], Quantized]:
    """Return what rounds rows to int8 for the least error of their outputs."""
    return lambda rows: compensate_pair_safe(rows, coupling()).stored
