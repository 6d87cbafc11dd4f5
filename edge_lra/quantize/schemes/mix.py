"""A scheme with others for some of the linears."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.digits import Rounding
from edge_lra.quantize.readings import Known
from edge_lra.quantize.schemes.base import NOTHING, Named, Scheme, newest
from edge_lra.weights import Source


class Mix(ABC):
    """A scheme, but others for some of the linears."""

    def __init__(self, scheme: Scheme, others: Sequence[Scheme]) -> None:
        """Take the scheme of most linears, and all that others may have."""
        self.scheme, self.others = scheme, tuple(others)
        self.name, self.smooths = scheme.name, scheme.smooths
        self.compensates = scheme.compensates
        self.compensates_decoders = scheme.compensates_decoders
        self.calibrates, self.smooths_head = scheme.calibrates, scheme.smooths_head
        every = [scheme, *others]
        self.min_onnxruntime = newest(*(s.min_onnxruntime for s in every))
        self.decoder_min_onnxruntime = newest(*(s.decoder_min_onnxruntime for s in every))
        self.kernel_spread = max(s.kernel_spread for s in every)

    @abstractmethod
    def scheme_of(self, weight: Source) -> Scheme:
        """Return the scheme of a linear: the usual one or one of the others."""

    def chooses_bits(self, weight: Source) -> bool:
        """Say whether the linear's scheme chooses."""
        return self.scheme_of(weight).chooses_bits(weight)

    def one_scale(self, weight: Source) -> bool:
        """Say whether the linear's scheme rounds what it reads by one scale."""
        return self.scheme_of(weight).one_scale(weight)

    def linear(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        name: str,
        weight: Source,
        known: Known | None = None,
    ) -> ir.Value:
        """Multiply in the linear's scheme."""
        return self.scheme_of(weight).linear(graph, x, name, weight, known)

    def products(
        self,
        graph: GraphBuilder,
        x: ir.Value,
        weights: Named,
        rounding: Rounding,
        head: bool = False,
        known: Mapping[str, Known] = NOTHING,
    ) -> list[ir.Value]:
        """Multiply by those of one scheme together."""
        schemes = [self.scheme_of(weight) for _, weight in weights]
        found: dict[str, ir.Value] = {}
        for scheme in (*self.others, self.scheme):
            part = [w for w, own in zip(weights, schemes, strict=True) if own is scheme]
            if part:
                values = scheme.products(graph, x, part, rounding, head, known)
                found |= {name: y for (name, _), y in zip(part, values, strict=True)}
        return [found[name] for name, _ in weights]

    def joined(
        self, graph: GraphBuilder, x: ir.Value, weights: Named, rounding: Rounding
    ) -> ir.Value | None:
        """Return the scheme's products side by side; None where one of them has another."""
        schemes = [self.scheme_of(weight) for _, weight in weights]
        if any(scheme is not self.scheme for scheme in schemes):
            return None
        return self.scheme.joined(graph, x, weights, rounding)

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

    def tied_embedding(
        self, graph: GraphBuilder, ids: ir.Value, name: str, head: Source
    ) -> ir.Value | None:
        """Return rows of the head in its scheme, where that shares them."""
        return self.scheme_of(head).tied_embedding(graph, ids, name, head)
