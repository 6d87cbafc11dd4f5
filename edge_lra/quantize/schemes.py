"""Schemes: how a linear and an embedding are stored and computed. One class each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.blockwise import BLOCK
from edge_lra.quantize.compensate import Coupling, compensate_pair_safe
from edge_lra.quantize.digits import Rounding, multiply_rows, round_rows
from edge_lra.quantize.pairsafe import Quantized, quantize_pair_safe, quantize_rows
from edge_lra.quantize.readings import Known
from edge_lra.quantize.stored import (
    BlockWeight,
    Int8Weight,
    JoinedWeight,
    RestoredWeight,
    survival_of,
)
from edge_lra.quantize.tables import WORD_BLOCK, int4_rows, int8_rows
from edge_lra.weights import Array, Dense, Source, Stored

FINER_BITS = 8  # of a linear in blocks that is worth more than 4
Named = Sequence[tuple[str, Source]]  # weights that read one value, by name


class Scheme(Protocol):
    """How weights are stored and multiplied."""

    name: str
    smooths: bool  # whether an encoder's norms divide their outlier channels for it
    compensates: bool  # whether an encoder's weights are rounded by what they read
    calibrates: bool  # whether a decoder is run beforehand, to divide channels and to count digits
    smooths_head: bool  # whether the norm before a decoder's head divides too
    min_onnxruntime: str  # that runs it on every processor
    decoder_min_onnxruntime: str
    # How far answers of other processors and releases may lie from those at export, beyond
    # roundings that flip: a share of the largest output.
    kernel_spread: float

    def chooses_bits(self, weight: Source) -> bool:
        """Say whether a linear of an encoder may be worth more bits than others."""

    def linear(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        name: str,
        weight: Source,
        known: Known | None = None,
    ) -> ir.Value:
        """Return x (.., in) times the weight, (.., out), without bias.

        Args:
            graph: to write into.
            x: what it reads.
            name: the weight's.
            weight: where its rows come from.
            known: what calibration found of x.
        """

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
    ) -> list[ir.Value]:
        """Return x (batch, tokens, in) of a decoder times each weight.

        Args:
            graph: to write into.
            x: what they read.
            weights: by name.
            rounding: what calibration found that x needs.
            head: the weight is the language model's head.
        """

    def joined(
        self, graph: GraphBuilder, x: ir.Value, weights: Named, rounding: Rounding
    ) -> ir.Value | None:
        """Return the same products side by side; None where each is multiplied alone."""

    def embedding(
        self,
        graph: GraphBuilder,
        ids: ir.Value,
        name: str,
        table: Source,
        words: bool = False,
    ) -> ir.Value:
        """Return the table's rows for the ids, (.., width) float32.

        Args:
            graph: to write into.
            ids: of any shape.
            name: the table's.
            table: where its rows come from.
            words: they are an encoder's words.
        """


class Float:
    """Keep every weight in float32."""

    name = "none"
    smooths = compensates = calibrates = smooths_head = False
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

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
    ) -> list[ir.Value]:
        """Multiply by each alone."""
        return [self.linear(graph, x, name, weight) for name, weight in weights]

    def joined(
        self, graph: GraphBuilder, x: ir.Value, weights: Named, rounding: Rounding
    ) -> ir.Value | None:
        """Return None: each is multiplied alone."""
        return None

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
    min_onnxruntime = decoder_min_onnxruntime = "1.20.0"
    kernel_spread = 0.0  # every kernel gives the same integers

    def chooses_bits(self, weight: Source) -> bool:
        """Return False: all have 8."""
        return False

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


class Blockwise:
    """Weights in blocks of 32 with a scale each, int8 embedding rows.

    Activations stay float in the graph; MatMulNBits rounds them by blocks too (accuracy level 4),
    which no far-reaching channel can spoil for the others, so nothing is smoothed in an encoder.
    In a decoder channels reach much further, and it halves the error.
    """

    name: str
    bits: int
    smooths = False
    compensates = False
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
        coupling = known.coupling if self.compensates else None
        bits = FINER_BITS if known.finer else self.bits
        stored = BlockWeight(name, weight, bits, survival_of(weight), coupling)
        values, scale, *factors = graph.stored(with_extra(stored, known))
        out, width = weight.shape
        sizes: dict[str, Any] = {"K": width, "N": out, "bits": bits, "block_size": BLOCK}
        inputs = [x, values, scale]
        y = graph.op("MatMulNBits", inputs, "com.microsoft", accuracy_level=4, **sizes)
        return plus(graph, x, y, factors)

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
    ) -> list[ir.Value]:
        """Multiply by each alone."""
        return [self.linear(graph, x, name, weight) for name, weight in weights]

    def joined(
        self, graph: GraphBuilder, x: ir.Value, weights: Named, rounding: Rounding
    ) -> ir.Value | None:
        """Return None: each is multiplied alone."""
        return None

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


class Int8WeightOnly(Blockwise):
    """8 bits a weight in blocks: llama.cpp's Q8_0 accuracy, quick for one token at a time."""

    name = "int8-weight-only"
    bits = FINER_BITS
    min_onnxruntime = decoder_min_onnxruntime = "1.23.0"  # 1.22 runs 8 bits on x86 alone


class Int4(Blockwise):
    """4 bits a weight in blocks: half the size, and an error that needs a look.

    An encoder's linears keep 8 where calibration finds that a byte gains most by it.
    A decoder's head keeps 8: it is a quarter of a small model's error.
    """

    name = "int4"
    bits = 4
    compensates = True
    # 1.23 is the first to run 8 bits, and to gather 4 from bytes, on every processor.
    min_onnxruntime = decoder_min_onnxruntime = Int8WeightOnly.min_onnxruntime

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
    ) -> list[ir.Value]:
        """Multiply by each alone, in 8 bits by the head."""
        scheme = Int8WeightOnly() if head else self
        return [scheme.linear(graph, x, name, weight) for name, weight in weights]

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


class KeepFloat:
    """A scheme, but float32 for the linears that a user names."""

    def __init__(self, scheme: Scheme, patterns: Sequence[str]) -> None:
        """Take shell patterns of the modules' names, such as `encoder.layer.5.*`."""
        self.scheme, self.float = scheme, Float()
        self.name, self.smooths = scheme.name, scheme.smooths
        self.compensates = scheme.compensates
        self.calibrates, self.smooths_head = scheme.calibrates, scheme.smooths_head
        self.min_onnxruntime = scheme.min_onnxruntime
        self.decoder_min_onnxruntime = scheme.decoder_min_onnxruntime
        self.kernel_spread = scheme.kernel_spread
        self.patterns = tuple(patterns)
        self.unused = dict.fromkeys(patterns)  # those that fitted nothing yet
        self.linears: list[str] = []

    def chooses_bits(self, weight: Source) -> bool:
        """Say whether the scheme chooses, which it does not for what stays float."""
        return not self.keeps(weight) and self.scheme.chooses_bits(weight)

    def linear(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        name: str,
        weight: Source,
        known: Known | None = None,
    ) -> ir.Value:
        """Multiply in float32 where a pattern fits the module, else in the scheme."""
        scheme = self.float if self.keeps(weight) else self.scheme
        return scheme.linear(graph, x, name, weight, known)

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
    ) -> list[ir.Value]:
        """Multiply by those that stay float in float32, by the others in the scheme."""
        kept = [self.keeps(weight) for _, weight in weights]
        found: dict[str, ir.Value] = {}
        for scheme, chosen in ((self.float, True), (self.scheme, False)):
            part = [item for item, keep in zip(weights, kept, strict=True) if keep == chosen]
            if part:
                values = scheme.products(graph, x, part, rounding, head)
                found |= {name: y for (name, _), y in zip(part, values, strict=True)}
        return [found[name] for name, _ in weights]

    def joined(
        self, graph: GraphBuilder, x: ir.Value, weights: Named, rounding: Rounding
    ) -> ir.Value | None:
        """Return the scheme's products side by side; None where one of them stays float."""
        if any([self.keeps(weight) for _, weight in weights]):
            return None
        return self.scheme.joined(graph, x, weights, rounding)

    def keeps(self, weight: Source) -> bool:
        """Say whether a pattern fits the module, and remember which did."""
        module = weight.tensor.removesuffix(".weight")
        self.linears.append(module)
        fitting = [pattern for pattern in self.patterns if fnmatchcase(module, pattern)]
        for pattern in fitting:
            self.unused.pop(pattern, None)
        return bool(fitting)

    def embedding(
        self,
        graph: GraphBuilder,
        ids: ir.Value,
        name: str,
        table: Source,
        words: bool = False,
    ) -> ir.Value:
        """Gather in the scheme: rows cost a look-up, no product."""
        return self.scheme.embedding(graph, ids, name, table, words)


def with_extra(weight: Int8Weight | BlockWeight, known: Known) -> Stored:
    """Return the weight with factors that make up for its error, where they are asked for."""
    return weight if known.extra is None else RestoredWeight(weight, known.extra)


def plus(graph: GraphBuilder, x: ir.Value, y: ir.Value, factors: Sequence[ir.Value]) -> ir.Value:
    """Return y + x down up; y where there are no factors."""
    if not factors:
        return y
    down, up = factors
    return graph.op("Add", [y, graph.op("MatMul", [graph.op("MatMul", [x, down]), up])])


def integer_product(
    graph: GraphBuilder,
    x: ir.Value,
    wq: ir.Value,
    w_scale: ir.Value,
    span: tuple[float, float] | None,
) -> ir.Value:
    """Return x times an int8 weight, x rounded by its span, or by each batch's own."""
    if span is not None:
        scale, zero = affine(graph, *span)
        (xq,) = graph.shared("QuantizeLinear", x, 1, [scale, zero])
        inputs = [xq, wq, scale, w_scale, zero, None]
        return graph.op("MatMulIntegerToFloat", inputs, "com.microsoft")
    xq, x_scale, zero = graph.shared("DynamicQuantizeLinear", x, outputs=3)
    product = graph.op("MatMulInteger", [xq, wq, zero], dtype=ir.DataType.INT32)
    real = graph.op("Cast", [product], to=int(ir.DataType.FLOAT))
    return graph.op("Mul", [real, graph.op("Mul", [x_scale, w_scale])])


def affine(graph: GraphBuilder, low: float, high: float) -> tuple[ir.Value, ir.Value]:
    """Return scale and zero point, as constants, that take a range with 0 in it to 0 .. 255."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(high - low, 1e-12) / 255)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    return graph.constant(np.array(scale)), graph.constant(np.array(zero))


def by_coupling(coupling: Callable[[], Coupling]) -> Callable[[Array], Quantized]:
    """Return what rounds rows to int8 for the least error of their outputs."""
    return lambda rows: compensate_pair_safe(rows, coupling()).stored


SCHEMES: dict[str, type[Scheme]] = {
    scheme.name: scheme for scheme in (Int8, Int8WeightOnly, Int4, Float)
}
