"""A scheme with float32 for the linears that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.digits import Rounding
from edge_lra.quantize.readings import Known
from edge_lra.quantize.schemes.base import Named, Scheme
from edge_lra.quantize.schemes.floats import Float
from edge_lra.weights import Source


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

    def tied_embedding(
        self, graph: GraphBuilder, ids: ir.Value, name: str, head: Source
    ) -> ir.Value | None:
        """Return the scheme's rows of the head; None where that stays float."""
        return None if self.keeps(head) else self.scheme.tied_embedding(graph, ids, name, head)
