"""A float64 run of an encoder with some of its linears in other forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from edge_lra.attribution.rounding import Sample, by_block, by_tensor, fixed
from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.quantize.blockwise import quantize_blocks
from edge_lra.quantize.calibrate import EncoderRun
from edge_lra.quantize.compensate import Coupling
from edge_lra.quantize.mixed import left_share
from edge_lra.quantize.pairsafe import quantize_pair_safe, quantize_rows
from edge_lra.quantize.readings import Couplings, Reading
from edge_lra.quantize.schemes.int8 import steps
from edge_lra.quantize.smooth import outlier_channels
from edge_lra.weights import Array

BITS = 8  # of weights in blocks


@dataclass(frozen=True)
class Treated:
    """What a linear reads once it was centred and divided.

    Attributes:
        reading: of it.
        shift: (width,) what was taken off.
        divisor: (width,).
        few: channels that int8 leaves to float32.
    """

    reading: Reading
    shift: Array
    divisor: Array
    few: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    @cached_property
    def mask(self) -> Array:
        """0 at the few channels, 1 at the others, (width,)."""
        mask = np.ones(len(self.divisor))
        mask[self.few] = 0
        return mask

    @cached_property
    def many(self) -> Reading:
        """The reading without the few channels."""
        return self.reading.shifted(np.zeros(len(self.mask)), self.mask)


def treat(build: EncoderBuilder, role: str, names: Mapping[str, str], reading: Reading) -> Treated:
    """Return a value as the graph of a builder lets a linear of a role read it.

    Args:
        build: the graph's.
        role: of the linear.
        names: of the layer's modules by role.
        reading: of the value as it is.
    """
    width = len(reading.low)
    shift, divisor = np.zeros(width), np.ones(width)
    if role == "down":
        apart = build.plan.remedies.outliers and not build.layers_inside(names)
        few = outlier_channels(reading.extreme) if apart else np.zeros(0, np.int64)
        return Treated(reading, shift, divisor, few)
    if role != "output" and build.treats:
        shift, divisor = build.treatment(reading)
        reading = reading.shifted(shift, 1 / divisor)
    return Treated(reading, shift, divisor)


class RoundedRun(EncoderRun):
    """A run in which linears compute as in their forms; others are exact.

    Attributes:
        forms: by module.
        reads: by module, what it reads.
        tables: embedding rows are rounded to int8.
        output: (tokens, hidden) of the last layer that was run.
    """

    def __init__(self, build: EncoderBuilder) -> None:
        """Take the builder whose graph is to be foreseen."""
        parts = build.recipe, build.plan.config, build.epsilon, build.source
        super().__init__(*parts)
        self.build = build
        self.forms: Mapping[str, str] = {}
        self.reads: dict[str, Treated] = {}
        self.tables = False
        self.output: Array = np.zeros((0, 0))
        self._couplings = Couplings()
        self._shares: dict[tuple[str, int], float] = {}
        self._ends: Array = np.zeros(0, np.int64)

    def layer(self, x: Array, names: Mapping[str, str], ends: Array) -> Array:
        """Return a layer's output, (tokens, hidden); texts end at `ends`."""
        self._ends = ends
        self.output = super().layer(x, names, ends)
        return self.output

    def remember(self, name: str, x: Array) -> None:
        """Keep nothing: what linears read is known from an exact run."""

    def rows(self, name: str, ids: Array) -> Array:
        """Return an embedding's rows for ids of any shape, rounded where tables are."""
        found = super().rows(name, ids)
        if not self.tables or name == self.recipe.embeddings.get("token_type"):
            return found
        flat = found.reshape(-1, found.shape[-1])
        values, scale = quantize_rows(flat)
        return np.asarray((values * scale.astype(np.float64)[:, None]).reshape(found.shape))

    def linear(self, x: Array, module: str) -> Array:
        """Return x W^T + b in the module's form."""
        product = PRODUCTS.get(self.forms.get(module, ""))
        return super().linear(x, module) if product is None else product(self, x, module)

    def in_int8(self, x: Array, module: str) -> Array:
        """Return the product in int8, but for the few channels that float32 multiplies."""
        read = self.reads[module]
        whole = (x - read.shift) / read.divisor
        values = self._by_one_scale(whole * read.mask, read.many)
        coupling = None
        if self.build.plan.remedies.gptq and read.many.moment is not None:
            coupling = self._couplings.later(read.many.moment)

        def weight(start: int, rows: Array) -> Array:
            return self._near(module, start, rows * read.mask, coupling)

        y = self._product(values, module, read, weight)
        if len(read.few):
            for start, rows in self.weight(module):
                part = rows[:, read.few] * read.divisor[read.few]
                y[:, start : start + len(rows)] += whole[:, read.few] @ part.T
        return y

    def in_blocks(self, x: Array, module: str) -> Array:
        """Return the product in blocks of 8 bits."""
        read = self.reads[module]
        values = by_block(self._sample((x - read.shift) / read.divisor)).values

        def weight(start: int, rows: Array) -> Array:
            return quantize_blocks(rows, BITS).weight(BITS, rows.shape[1])

        return self._product(values, module, read, weight)

    def _product(
        self,
        values: Array,
        module: str,
        read: Treated,
        rounded: Callable[[int, Array], Array],
    ) -> Array:
        """Return values by the rounded weight, plus the bias with what was taken off in it."""
        y = np.empty((len(values), self.source(f"{module}.weight").shape[0]))
        for start, rows in self.weight(module):
            part = values @ rounded(start, rows * read.divisor).T + rows @ read.shift
            y[:, start : start + len(rows)] = part
        return y + self.whole(f"{module}.bias")

    def _near(
        self, module: str, start: int, rows: Array, coupling: Callable[[], Coupling] | None
    ) -> Array:
        """Return rows with an error as large as int8 leaves."""
        values, scale = quantize_pair_safe(rows)
        gap = values * scale.astype(np.float64)[:, None] - rows
        if coupling is not None:
            key = module, start
            if key not in self._shares:
                self._shares[key] = left_share(rows, gap, coupling())
            gap = gap * self._shares[key]
        return np.asarray(rows + gap)

    def _by_one_scale(self, x: Array, reading: Reading) -> Array:
        """Return x (tokens, width) as uint8 shows it, with calibrated or with each text's range."""
        sample = self._sample(x)
        if not self.build.static:
            return by_tensor(sample).values
        scale, zero = steps(float(reading.low.min()), float(reading.high.max()))
        return fixed(sample.rows, scale, zero.astype(np.float32)).values

    def _sample(self, x: Array) -> Sample:
        parts = np.split(x.astype(np.float32), self._ends)
        text = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        low, high = (np.stack([end(part, axis=0) for part in parts]) for end in (np.min, np.max))
        return Sample(np.concatenate(parts), text, low, high)


PRODUCTS: dict[str, Callable[[RoundedRun, Array, str], Array]] = {
    "int8": RoundedRun.in_int8,
    "int8-weight-only": RoundedRun.in_blocks,
}
