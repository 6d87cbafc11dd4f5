"""A decoder's embedding and its head: two weights, or one tensor that both read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edge_lra.graph.plan import Plan
from edge_lra.graph.products import ProductWriter
from edge_lra.recipe import DecoderRecipe
from edge_lra.weights import Source


class WordWriter(ProductWriter):
    """Writes the look-up of words, from the head's weight where that serves for both."""

    def __init__(self, plan: Plan) -> None:
        """Prepare an empty graph."""
        super().__init__(plan)
        if not isinstance(plan.recipe, DecoderRecipe):
            raise TypeError(f"{plan.recipe.family} is no decoder")
        self.recipe = plan.recipe

    @property
    def tied(self) -> bool:
        """Whether embedding and head are one tensor."""
        name, plan = f"{self.recipe.head}.weight", self.plan
        return not any(name in own for own in (plan.replacements, plan.names, plan.parted))

    def head_source(self) -> Source:
        """Return where the head's weight (vocabulary, width) comes from; it may be tied."""
        name = f"{self.recipe.head}.weight"
        if name in self.plan.replacements or name in self.plan.names:
            return self.source(name)
        embedding = self.recipe.embeddings["word"]
        tied = self.source(embedding)
        if name not in self.plan.parted:
            return tied
        tensor = self.plan.names[embedding]
        plain = Source(self.plan.checkpoint, tensor, tied.shape, self.plan.merged.get(name))
        return replace(plain, known_as=name)

    def words(self, ids: ir.Value) -> ir.Value:
        """Return the tokens' rows (.., width), scaled as the family does."""
        if self.tied:
            rows = self._rows_of_head(ids)
            if rows is not None:
                return rows
        name = self.recipe.embeddings["word"]
        table = self.source(name)
        if self.recipe.embedding_scale:
            table = replace(table, column_scale=np.full(table.shape[1], table.shape[1] ** 0.5))
        return self.plan.scheme.embedding(self.graph, ids, name, table)

    def _rows_of_head(self, ids: ir.Value) -> ir.Value | None:
        """Return the tokens' rows of what the scheme stores for the head, if it can share that.

        The head's columns hold what divides the channels that it reads; it is taken out again.
        """
        source = self.head_source()
        factors = np.full(source.shape[1], 1.0)
        if self.recipe.embedding_scale:
            factors *= source.shape[1] ** 0.5
        site = self.sites.get(self.recipe.final_norm)
        if site is not None:
            source = replace(source, column_scale=site.divisor)
            factors /= site.divisor
        name = f"{self.recipe.head}.weight"
        rows = self.plan.scheme.tied_embedding(self.graph, ids, name, source)
        if rows is None or np.all(factors == 1):
            return rows
        return self.graph.op("Mul", [rows, self.graph.constant(factors.astype(np.float32))])
