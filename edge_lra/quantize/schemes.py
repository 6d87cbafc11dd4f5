"""Schemes: how a linear and an embedding are stored and computed. One class each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.pairsafe import Quantized, quantize_pair_safe, quantize_rows
from edge_lra.quantize.survival import Survival
from edge_lra.weights import Dense, Source, Spec

Array = npt.NDArray[Any]


class Scheme(Protocol):
    """How weights are stored and multiplied."""

    name: str
    smooths: bool  # whether norms divide their outlier channels for it

    def linear(self, graph: GraphBuilder, x: ir.Value, name: str, weight: Source) -> ir.Value:
        """Return x (.., in) times the weight, (.., out), without bias."""

    def embedding(self, graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
        """Return the table's rows for the ids, (.., width) float32."""


class Float:
    """Keep every weight in float32."""

    name = "none"
    smooths = False

    def linear(self, graph: GraphBuilder, x: ir.Value, name: str, weight: Source) -> ir.Value:
        """Multiply in float32."""
        return graph.op("MatMul", [x, graph.stored(Dense(name, weight, transpose=True))[0]])

    def embedding(self, graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
        """Gather float rows."""
        return graph.op("Gather", [graph.stored(Dense(name, table))[0], ids])


@dataclass(frozen=True)
class Int8Weight:
    """Integers and scales of one weight, from one pass over its rows."""

    name: str
    source: Source
    quantize: Callable[[Array], Quantized]
    transpose: bool
    survival: Survival | None = None  # filled while the rows are written

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the integers' and the scales' place."""
        rows, columns = self.source.shape
        values = (columns, rows) if self.transpose else (rows, columns)
        scale = (rows,) if self.transpose else (rows, 1)
        return Spec(f"{self.name}.int8", values, "int8"), Spec(
            f"{self.name}.scale", scale, "float32"
        )

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield embedding rows as they come; a linear's integers whole, turned to (in, out)."""
        values, scale = self.specs
        whole = np.empty(values.shape, np.int8) if self.transpose else None
        for start, rows, plain in self.source.pairs():
            part = self.quantize(rows)
            if self.survival is not None:
                self.survival.add(part, rows, plain)
            yield scale.name, start, part.scale.reshape((-1, *scale.shape[1:]))
            if whole is None:
                yield values.name, start, part.values
            else:
                whole[:, start : start + len(rows)] = part.values.T
        if whole is not None:
            yield values.name, 0, whole


class Int8:
    """Dynamic u8 activations, pair-safe s8 weights a channel, int8 embedding rows.

    The standard MatMulInteger form: onnxruntime fuses it to MatMulIntegerToFloat, and matmuls
    that read the same tensor share its DynamicQuantizeLinear.
    """

    name = "int8"
    smooths = True

    def linear(self, graph: GraphBuilder, x: ir.Value, name: str, weight: Source) -> ir.Value:
        """Quantize x once for all its readers, multiply in int32, scale back."""
        xq, x_scale, zero = graph.shared("DynamicQuantizeLinear", x, outputs=3)
        survival = Survival(weight.tensor) if weight.update is not None else None
        stored = Int8Weight(name, weight, quantize_pair_safe, transpose=True, survival=survival)
        wq, w_scale = graph.stored(stored)
        product = graph.op("MatMulInteger", [xq, wq, zero], dtype=ir.DataType.INT32)
        real = graph.op("Cast", [product], to=int(ir.DataType.FLOAT))
        return graph.op("Mul", [real, graph.op("Mul", [x_scale, w_scale])])

    def embedding(self, graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
        """Gather int8 rows and their scales."""
        rows, scale = graph.stored(Int8Weight(name, table, quantize_rows, transpose=False))
        picked = graph.op("Cast", [graph.op("Gather", [rows, ids])], to=int(ir.DataType.FLOAT))
        return graph.op("Mul", [picked, graph.op("Gather", [scale, ids])])


SCHEMES: dict[str, type[Scheme]] = {scheme.name: scheme for scheme in (Int8, Float)}
