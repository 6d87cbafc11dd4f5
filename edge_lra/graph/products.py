"""Products of a decoder's linears: together where they read one value, which may be divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edge_lra.graph.modules import ModuleWriter, Smoothed
from edge_lra.graph.plan import Plan
from edge_lra.quantize.compensate.coupling import DECODER_DAMPING
from edge_lra.quantize.decoder_run import Site
from edge_lra.quantize.digits import Rounding
from edge_lra.quantize.readings import Couplings, Known
from edge_lra.quantize.schemes import Named
from edge_lra.weights import Array, Source


class ProductWriter(ModuleWriter):
    """Writes linears by what calibration found of the values that they read."""

    def __init__(self, plan: Plan) -> None:
        """Prepare an empty graph."""
        super().__init__(plan, stacked=True)
        self.sites: Mapping[str, Site] = {}  # by module: a norm, or the linear that reads
        self.row_scales: dict[str, Array] = {}  # by linear, what divides its outputs
        self._read: dict[str, Site] = {}  # of values that linears read, by name
        self.couplings = Couplings(DECODER_DAMPING)
        self._products: dict[tuple[str, str], ir.Value] = {}  # by the value read and the weight

    def source(self, name: str) -> Source:
        """Return where a recipe tensor's rows come from, divided where its readers multiply."""
        source = super().source(name)
        scale = self.row_scales.get(name.rpartition(".")[0])
        return source if scale is None else replace(source, row_scale=scale)

    def mark(self, x: ir.Value, site: Site, divided: bool = True) -> None:
        """Let the linears that read x know what calibration found of it."""
        self._read[str(x.name)] = site
        if self.compensates and site.reading is not None:
            reading = site.reading
            if divided:
                reading = reading.shifted(np.zeros(len(site.divisor)), 1 / site.divisor)
            if reading.moment is not None:
                self.known[str(x.name)] = Known(coupling=self.couplings.later(reading.moment))
        if divided:
            self.smoothed[str(x.name)] = Smoothed(x, site.divisor)
            self.factors.divisors[str(x.name)] = site.divisor

    def multiply(self, x: ir.Value, name: str, source: Source) -> ir.Value:
        """Return x W^T in the scheme, which may have multiplied already for all readers of x."""
        key = (str(x.name), name)
        if key not in self._products:
            self.multiply_all(x, [(name, source)])
        return self._products[key]

    def multiply_joined(self, x: ir.Value, modules: Sequence[str]) -> ir.Value | None:
        """Return what modules that read x give, side by side, their factors added.

        None where the scheme multiplies by each alone, or a module does more to its product.
        """
        sources = [self.linear_source(name) for name in modules]
        outputs = [(source.tensor, source.shape[0]) for source in sources]
        if any(self.has_bias(f"{name}.bias") for name in modules):
            return None
        if not self.factors.only_low_rank([tensor for tensor, _ in outputs]):
            return None
        weights = [(f"{n}.weight", s) for n, s in zip(modules, sources, strict=True)]
        prepared, rounding = self._prepared(x, weights)
        y = self.plan.scheme.joined(self.graph, x, prepared, rounding)
        if y is None:
            return None
        group = modules[0].rpartition(".")[0]
        return self.factors.add_joined(x, y, group, outputs, sources[0].shape[1])

    def _prepared(self, x: ir.Value, weights: Named) -> tuple[Named, Rounding]:
        """Return the weights as x, which may be divided, needs them, and how to round x."""
        site, smooth = self._read.get(str(x.name)), self.smoothed.get(str(x.name))
        if smooth is not None:
            weights = [(n, replace(w, column_scale=smooth.divisor)) for n, w in weights]
        return weights, Rounding() if site is None else site.rounding(smooth is not None)

    def multiply_all(self, x: ir.Value, weights: Named, head: bool = False) -> None:
        """Multiply x by all weights that read it at once, for `multiply` to find."""
        prepared, rounding = self._prepared(x, weights)
        known = {} if head else {name: self.known_of(x, name) for name, _ in weights}
        values = self.plan.scheme.products(self.graph, x, prepared, rounding, head, known)
        for (name, _), value in zip(weights, values, strict=True):
            self._products[str(x.name), name] = value

    @property
    def compensates(self) -> bool:
        """Whether weights are rounded for the least error of their outputs."""
        return self.plan.scheme.compensates_decoders and self.plan.remedies.gptq

    def known_of(self, x: ir.Value, name: str) -> Known:
        """Return what calibration found of x, and whether a weight that reads it has more bits."""
        known = self.known.get(str(x.name), Known())
        return replace(known, finer=name.removesuffix(".weight") in self.finer)

    def read_together(self, x: ir.Value, modules: Sequence[str]) -> None:
        """Prepare what modules that read x share: their products and their down factors."""
        tensors = [self.source(f"{name}.weight").tensor for name in modules]
        self.factors.share(x, modules[0].rpartition(".")[0], tensors)
        self.multiply_all(x, [(f"{m}.weight", self.linear_source(m)) for m in modules])
