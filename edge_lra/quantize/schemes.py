"""Schemes: how a linear and an embedding are stored and computed. One class each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.blockwise import BLOCK, quantize_blocks
from edge_lra.quantize.pairsafe import Quantized, quantize_pair_safe, quantize_rows
from edge_lra.quantize.survival import Survival
from edge_lra.weights import Dense, Source, Spec

Array = npt.NDArray[Any]


class Scheme(Protocol):
    """How weights are stored and multiplied."""

    name: str
    smooths: bool  # whether norms divide their outlier channels for it
    min_onnxruntime: str  # that runs it on every processor
    # How far answers of other processors and releases may lie from those at export, beyond
    # roundings that flip: a share of the largest output.
    kernel_spread: float

    def linear(self, graph: GraphBuilder, x: ir.Value, name: str, weight: Source) -> ir.Value:
        """Return x (.., in) times the weight, (.., out), without bias."""

    def embedding(self, graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
        """Return the table's rows for the ids, (.., width) float32."""


class Float:
    """Keep every weight in float32."""

    name = "none"
    smooths = False
    min_onnxruntime = "1.20.0"
    kernel_spread = 0.0

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
                wide = part.scale.astype(np.float64)[:, None]
                self.survival.add(part.values * wide, part.scale, rows, plain)
            yield scale.name, start, part.scale.reshape((-1, *scale.shape[1:]))
            if whole is None:
                yield values.name, start, part.values
            else:
                whole[:, start : start + len(rows)] = part.values.T
        if whole is not None:
            yield values.name, 0, whole


@dataclass(frozen=True)
class BlockWeight:
    """Packed integers and block scales of one weight (out, in), from one pass over its rows."""

    name: str
    source: Source
    bits: int
    survival: Survival | None = None  # filled while the rows are written

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the packed integers' and the scales' place."""
        rows, columns = self.source.shape
        blocks = -(-columns // BLOCK)
        packed = (rows, blocks, BLOCK * self.bits // 8)
        return Spec(f"{self.name}.int{self.bits}", packed, "uint8"), Spec(
            f"{self.name}.scale", (rows * blocks,), "float32"
        )

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield both tensors' rows as they come."""
        values, scale = self.specs
        for start, rows, plain in self.source.pairs():
            part = quantize_blocks(rows, self.bits)
            if self.survival is not None:
                self.survival.add(part.weight, np.abs(part.scale).max(axis=1), rows, plain)
            yield values.name, start, part.packed
            yield scale.name, start * part.scale.shape[1], part.scale.reshape(-1)


def _survival(weight: Source) -> Survival | None:
    """Return where to count what is left of an adapter's change; None where nothing changes."""
    return Survival(weight.tensor) if weight.update is not None else None


class Int8:
    """Dynamic u8 activations, pair-safe s8 weights a channel, int8 embedding rows.

    The standard MatMulInteger form: onnxruntime fuses it to MatMulIntegerToFloat, and matmuls
    that read the same tensor share its DynamicQuantizeLinear.
    """

    name = "int8"
    smooths = True
    min_onnxruntime = "1.20.0"
    kernel_spread = 0.0  # every kernel gives the same integers

    def linear(self, graph: GraphBuilder, x: ir.Value, name: str, weight: Source) -> ir.Value:
        """Quantize x once for all its readers, multiply in int32, scale back."""
        xq, x_scale, zero = graph.shared("DynamicQuantizeLinear", x, outputs=3)
        stored = Int8Weight(name, weight, quantize_pair_safe, True, _survival(weight))
        wq, w_scale = graph.stored(stored)
        product = graph.op("MatMulInteger", [xq, wq, zero], dtype=ir.DataType.INT32)
        real = graph.op("Cast", [product], to=int(ir.DataType.FLOAT))
        return graph.op("Mul", [real, graph.op("Mul", [x_scale, w_scale])])

    def embedding(self, graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
        """Gather int8 rows and their scales."""
        return int8_rows(graph, ids, name, table)


class Blockwise:
    """Weights in blocks of 32 with a scale each, int8 embedding rows.

    Activations stay float in the graph; MatMulNBits rounds them by blocks too (accuracy level 4),
    which no far-reaching channel can spoil for the others, so nothing is smoothed.
    """

    name: str
    bits: int
    smooths = False
    min_onnxruntime: str
    # Accuracy level 4 leaves it to the kernel how it rounds activations: up to 2e-2 was found
    # between processors on outputs of about 5.
    kernel_spread = 4e-3

    def linear(self, graph: GraphBuilder, x: ir.Value, name: str, weight: Source) -> ir.Value:
        """Multiply by packed blocks, (out, blocks, bytes)."""
        values, scale = graph.stored(BlockWeight(name, weight, self.bits, _survival(weight)))
        out, width = weight.shape
        sizes: dict[str, Any] = {"K": width, "N": out, "bits": self.bits, "block_size": BLOCK}
        inputs = [x, values, scale]
        return graph.op("MatMulNBits", inputs, "com.microsoft", accuracy_level=4, **sizes)

    def embedding(self, graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
        """Gather int8 rows and their scales."""
        return int8_rows(graph, ids, name, table)


class Int8WeightOnly(Blockwise):
    """8 bits a weight in blocks: llama.cpp's Q8_0 accuracy, quick for one token at a time."""

    name = "int8-weight-only"
    bits = 8
    min_onnxruntime = "1.23.0"  # 1.22 runs 8 bits on x86 alone


class Int4(Blockwise):
    """4 bits a weight in blocks: half the size, and an error that needs a look."""

    name = "int4"
    bits = 4
    min_onnxruntime = "1.20.0"


class KeepFloat:
    """A scheme, but float32 for the linears that a user names."""

    def __init__(self, scheme: Scheme, patterns: Sequence[str]) -> None:
        """Take shell patterns of the modules' names, such as `encoder.layer.5.*`."""
        self.scheme, self.float = scheme, Float()
        self.name, self.smooths = scheme.name, scheme.smooths
        self.min_onnxruntime = scheme.min_onnxruntime
        self.kernel_spread = scheme.kernel_spread
        self.patterns = tuple(patterns)
        self.unused = dict.fromkeys(patterns)  # those that fitted nothing yet
        self.linears: list[str] = []

    def linear(self, graph: GraphBuilder, x: ir.Value, name: str, weight: Source) -> ir.Value:
        """Multiply in float32 where a pattern fits the module, else in the scheme."""
        module = weight.tensor.removesuffix(".weight")
        self.linears.append(module)
        fitting = [pattern for pattern in self.patterns if fnmatchcase(module, pattern)]
        for pattern in fitting:
            self.unused.pop(pattern, None)
        return (self.float if fitting else self.scheme).linear(graph, x, name, weight)

    def embedding(self, graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
        """Gather in the scheme: rows cost a look-up, no product."""
        return self.scheme.embedding(graph, ids, name, table)


def int8_rows(graph: GraphBuilder, ids: ir.Value, name: str, table: Source) -> ir.Value:
    """Gather int8 rows and their scales, (.., width) float32."""
    rows, scale = graph.stored(Int8Weight(name, table, quantize_rows, transpose=False))
    picked = graph.op("Cast", [graph.op("Gather", [rows, ids])], to=int(ir.DataType.FLOAT))
    return graph.op("Mul", [picked, graph.op("Gather", [scale, ids])])


SCHEMES: dict[str, type[Scheme]] = {
    scheme.name: scheme for scheme in (Int8, Int8WeightOnly, Int4, Float)
}
