"""A feed-forward block whose few far-reaching activations stay in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edge_lra.quantize.smooth import outlier_channels
from edge_lra.weights import Array, Dense, Folded, Source

if TYPE_CHECKING:
    from edge_lra.graph.encoder import EncoderBuilder


class _Split:
    """The down projection twice: all channels but a few in int8, those few in float32.

    The int8 half keeps its width; the few channels' rows are zero there, and an activation of 0
    is 0, so nothing is gathered or masked at run time.
    """

    def __init__(self, build: EncoderBuilder, module: Mapping[str, str]) -> None:
        """Choose the channels."""
        self.build, self.graph, self.factors = build, build.graph, build.factors
        self.up, self.down = module["up"], module["down"]
        self.up_source = build.source(f"{self.up}.weight")
        self.down_source = build.source(f"{self.down}.weight")
        self.reading = build.readings[self.up]
        self.few: Array = outlier_channels(self.reading.extreme)
        self.mask = np.ones(self.up_source.shape[0])
        self.mask[self.few] = 0

    def inner(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the activations of the many channels (few are 0) and of the few."""
        name, source = f"{self.up}.weight", self.up_source
        many = self.build.multiply(x, name, self._many_rows(source))
        few = self.build.multiply(x, f"{name}.outliers", self._few_rows(source))
        if source.tensor in self.factors.sites:
            down, up = self.factors.pair(self.up, source.tensor, source.shape)
            lowered = self.graph.op("MatMul", [self.build.exact(x), down])
            many = self._plus(many, lowered, self._masked(up))
            few = self._plus(few, lowered, self._picked(up))
        gain = self.factors.gain(self.up, source.tensor, source.shape[0])
        if gain is not None:
            many = self.factors.scale(many, gain)
            few = self.factors.scale(few, self._picked(gain))
        kept, few_bias = self.biases(x)
        many, few = self.graph.add_bias(many, kept), self.graph.add_bias(few, few_bias)
        shift = self.factors.shift(self.up, source.tensor, source.shape[0])
        if shift is not None:
            many = self.graph.op("Add", [many, self._masked(shift)])
            few = self.graph.op("Add", [few, self._picked(shift)])
        return self.build.activation(many), self.build.activation(few)

    def biases(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the up projection's bias for the many channels (0 for the few) and the few."""
        name, smooth = f"{self.up}.bias", self.build.smoothed.get(str(x.name))
        shift = smooth.shift if smooth is not None else None

        def stored(title: str, pick: Callable[[Source], Source]) -> ir.Value:
            weight = None if shift is None else pick(self.up_source)
            folded = Folded(title, pick(self.build.source(name)), weight, shift)
            return self.graph.stored(folded)[0]

        return stored(name, self._many_rows), stored(f"{name}.outliers", self._few_rows)

    def _many_rows(self, source: Source) -> Source:
        """Return a weight's or a bias's outputs with the few at 0."""
        return replace(source, row_scale=self.mask)

    def _few_rows(self, source: Source) -> Source:
        """Return a weight's or a bias's outputs of the few channels alone."""
        return replace(source, shape=(len(self.few), *source.shape[1:]), rows=self.few)

    def outer(self, many: ir.Value, few: ir.Value, carried: Array | None) -> ir.Value:
        """Return the down projection of both halves, plus `carried`."""
        name, source = f"{self.down}.weight", self.down_source
        tensor, shape = source.tensor, source.shape
        bias = self.build.bias(many, self.down, carried)
        self.build.learn(many, self.reading.shifted(np.zeros(len(self.mask)), self.mask))
        gain = self.factors.gain(self.down, tensor, shape[0])
        y = self.build.multiply(many, name, replace(source, column_scale=self.mask))
        if gain is None:  # onnxruntime fuses a bias that comes right behind the product
            y = self.graph.add_bias(y, bias)
        picked = replace(source, shape=(shape[0], len(self.few)), columns=self.few)
        weight = self.graph.stored(Dense(f"{name}.outliers", picked, transpose=True))[0]
        y = self._plus(y, few, weight)
        if tensor in self.factors.sites:
            down, up = self.factors.pair(self.down, tensor, shape)
            rows = self.graph.op("Gather", [down, self.graph.constant(self.few)], axis=0)
            lowered = self._plus(self.graph.op("MatMul", [many, down]), few, rows)
            y = self._plus(y, lowered, up)
        if gain is not None:
            y = self.graph.op("Add", [self.factors.scale(y, gain), bias])
        shift = self.factors.shift(self.down, tensor, shape[0])
        y = y if shift is None else self.graph.op("Add", [y, shift])
        return self.factors.layers(many, y, self.down, tensor, shape)

    def _masked(self, x: ir.Value) -> ir.Value:
        """Return an adapter's outputs with the few at 0."""
        mask = self.graph.constant(self.mask.astype(np.float32))
        return self.graph.op("Mul", [x, mask])

    def _picked(self, x: ir.Value) -> ir.Value:
        """Return an adapter's outputs for the few channels alone."""
        return self.graph.op("Gather", [x, self.graph.constant(self.few)], axis=-1)

    def _plus(self, y: ir.Value, x: ir.Value, weight: ir.Value) -> ir.Value:
        return self.graph.op("Add", [y, self.graph.op("MatMul", [x, weight])])


def split_feed_forward(
    build: EncoderBuilder, x: ir.Value, module: Mapping[str, str], carried: Array | None = None
) -> ir.Value:
    """Write up projection, activation and down projection; adapters at either site read floats.

    Args:
        build: the encoder under construction.
        x: (.., hidden) the block's input.
        module: module names by role.
        carried: (hidden,) what the down projection's bias adds besides.
    """
    split = _Split(build, module)
    return split.outer(*split.inner(x), carried)
