"""Int8 products whose activations are rounded a row at a time, to one digit or to two.

No row's integers depend on other tokens or other rows of a batch: a prompt in chunks and a token at
a time give the same integers. A row is divided by its largest magnitude, or, behind a norm, which
does that already, by a fixed one: four operators less.

One digit is 8 bits. Two digits are 7 bits each: x / largest = (high + low / 126) / 63, stacked as
rows of one product, so that weights are read once: a token's takes up to 5 % longer. 7 bits
leave the weights their full range on processors whose kernels add two products in 16 bits:
2 * 127 * 127 < 2**15.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder

ONE, HIGH, LOW = 127, 63, 126  # steps of one digit, of the first of two, and of the second in it


class Rounding(NamedTuple):
    """How the rows of a value are rounded.

    Attributes:
        digits: 1 or 2.
        reach: the magnitude that two digits end at; None for each row's largest.
    """

    digits: int = 2
    reach: float | None = None


class Rows(NamedTuple):
    """Activations (.., in) as integers."""

    values: ir.Value  # uint8; two digits are stacked along the first axis
    zero: ir.Value  # () uint8
    step: ir.Value  # () float32, what one of the first digit's integers is worth
    largest: ir.Value | None  # (.., 1) what the rows were divided by
    digits: int


def round_rows(graph: GraphBuilder, x: ir.Value, rounding: Rounding) -> Rows:
    """Round each row of x (batch, tokens, in).

    A row of zeros is divided by 0: whatever integers that gives, its products are multiplied by 0.
    """
    digits, reach = rounding
    largest = None
    if digits == 2 and reach is not None:
        x = graph.op("Clip", [x, _number(graph, -reach), _number(graph, reach)])
    else:
        reach = 1.0
        largest = graph.op("ReduceMax", [graph.op("Abs", [x]), graph.ints(-1)], keepdims=1)
        x = graph.op("Div", [x, largest])
    if digits == 1:
        step, zero = _number(graph, 1 / ONE), graph.constant(np.array(128, np.uint8))
        return Rows(graph.op("QuantizeLinear", [x, step, zero]), zero, step, largest, 1)
    step, zero = _number(graph, reach / HIGH), graph.constant(np.array(64, np.uint8))
    high = graph.op("QuantizeLinear", [x, step, zero])
    rest = graph.op("Sub", [x, graph.op("DequantizeLinear", [high, step, zero])])
    low = graph.op("QuantizeLinear", [rest, _number(graph, reach / (HIGH * LOW)), zero])
    return Rows(graph.op("Concat", [high, low], axis=0), zero, step, largest, 2)


def multiply_rows(graph: GraphBuilder, rows: Rows, weight: ir.Value, scale: ir.Value) -> ir.Value:
    """Return rows (.., in) times the weight (in, out) int8 with a scale (out,) a column.

    Standard operators: the fused MatMulIntegerToFloat takes 5 % longer for a token (135M, VNNI).
    """
    product = graph.op("MatMulInteger", [rows.values, weight, rows.zero], dtype=ir.DataType.INT32)
    real = graph.op("Cast", [product], to=int(ir.DataType.FLOAT))
    y = graph.op("Mul", [real, graph.op("Mul", [rows.step, scale])])
    if rows.digits == 2:
        high, low = graph.ops("Split", [y], 2, axis=0, num_outputs=2)
        y = graph.op("Add", [high, graph.op("Mul", [low, _number(graph, 1 / LOW)])])
    return y if rows.largest is None else graph.op("Mul", [y, rows.largest])


def _number(graph: GraphBuilder, value: float) -> ir.Value:
    return graph.constant(np.array(value, np.float32))
