"""What a scheme decides: how a linear and an embedding are stored and computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.digits import Rounding
from edge_lra.quantize.readings import Known
from edge_lra.weights import Source

Named = Sequence[tuple[str, Source]]  # weights that read one value, by name
NOTHING: Mapping[str, Known] = MappingProxyType({})


def newest(*versions: str) -> str:
    """Return the latest of versions MAJOR.MINOR.PATCH."""
    return max(versions, key=lambda version: [int(part) for part in version.split(".")])


class Scheme(Protocol):
    """How weights are stored and multiplied."""

    name: str
    smooths: bool  # whether an encoder's norms divide their outlier channels for it
    compensates: bool  # whether an encoder's weights are rounded by what they read
    calibrates: bool  # whether a decoder is run beforehand, to divide channels and to count digits
    compensates_decoders: bool  # whether a decoder's weights are rounded by what they read
    smooths_head: bool  # whether the norm before a decoder's head divides too
    min_onnxruntime: str  # that runs it on every processor
    decoder_min_onnxruntime: str
    # How far answers of other processors and releases may lie from those at export, beyond
    # roundings that flip: a share of the largest output.
    kernel_spread: float

    def chooses_bits(self, weight: Source) -> bool:
        """Say whether a linear of a layer may be worth more bits than others."""

    def one_scale(self, weight: Source) -> bool:
        """Say whether an encoder's linear rounds all that it reads by one scale.

        A few channels that reach far would then leave the others too few steps.
        """

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
        known: Mapping[str, Known] = NOTHING,
    ) -> list[ir.Value]:
        """Return x (batch, tokens, in) of a decoder times each weight.

        Args:
            graph: to write into.
            x: what they read.
            weights: by name.
            rounding: what calibration found that x needs.
            head: the weight is the language model's head.
            known: what calibration found besides, by the weight's name.
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

    def tied_embedding(
        self, graph: GraphBuilder, ids: ir.Value, name: str, head: Source
    ) -> ir.Value | None:
        """Return rows of what `products` stores for a decoder's head, (.., width) float32.

        None where head and embedding are stored apart.

        Args:
            graph: to write into.
            ids: of any shape.
            name: the head's.
            head: where its rows come from, as `products` is given them.
        """


class EachAlone(ABC):
    """What schemes have in common that multiply by each weight alone."""

    def one_scale(self, weight: Source) -> bool:
        """Return False: what is read stays float, or has a scale a block."""
        return False

    @abstractmethod
    def linear(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        name: str,
        weight: Source,
        known: Known | None = None,
    ) -> ir.Value:
        """Return x (.., in) times the weight, (.., out), without bias."""

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
        known: Mapping[str, Known] = NOTHING,
    ) -> list[ir.Value]:
        """Multiply by each alone."""
        return [self.linear(graph, x, name, weight) for name, weight in weights]

    def joined(
        self, graph: GraphBuilder, x: ir.Value, weights: Named, rounding: Rounding
    ) -> ir.Value | None:
        """Return None: each is multiplied alone."""
        return None

    def tied_embedding(
        self, graph: GraphBuilder, ids: ir.Value, name: str, head: Source
    ) -> ir.Value | None:
        """Return None: head and embedding are stored apart."""
        return None
