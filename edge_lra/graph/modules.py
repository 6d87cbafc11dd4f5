"""What every family's builder does with a plan: weights by name, linears in the scheme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edge_lra.errors import EdgeError
from edge_lra.graph.builder import GraphBuilder
from edge_lra.graph.factors import FactorWriter
from edge_lra.graph.plan import Plan
from edge_lra.quantize.readings import Known
from edge_lra.weights import Array, Dense, Folded, Source

MICROSOFT = "com.microsoft"
ACTIVATIONS = {
    "gelu": "none",
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class Smoothed:
    """A norm's output divided by channel: what int8 matmuls read."""

    value: ir.Value
    divisor: Array  # (hidden,) float64
    shift: Array | None = None  # (hidden,) taken off before the division


class ModuleWriter:
    """Writes the modules of one plan."""

    def __init__(self, plan: Plan, stacked: bool = False) -> None:
        """Prepare an empty graph.

        Args:
            plan: what to build.
            stacked: adapters are many behind an index, rather than one at a time.
        """
        self.plan = plan
        self.graph = GraphBuilder()
        dtype = plan.adapter_dtype
        self.factors = FactorWriter(self.graph, plan.slots, stacked, dtype)
        self.smoothed: dict[str, Smoothed] = {}
        self.known: dict[str, Known] = {}  # of values that linears read, by their names
        self.finer: Sequence[str] = ()  # modules whose weights are worth more bits than others

    def source(self, name: str) -> Source:
        """Return where a recipe tensor's rows come from."""
        if name in self.plan.replacements:
            array = self.plan.replacements[name]
            known = self.plan.names.get(name, name)
            update = self.plan.merged.get(known)  # PEFT saves an adapted head's own weight, too
            return Source(self.plan.checkpoint, known, array.shape, update, array)
        tensor = self.plan.names.get(name)
        if tensor is None:
            raise EdgeError(
                f"{self.plan.checkpoint.path}: found no tensor {name!r}, expected it for family "
                f"{self.plan.recipe.family} and task {self.plan.task}; is the checkpoint complete, "
                "or does an adapter with this head belong to it?"
            )
        shape = self.plan.checkpoint.tensors[tensor].shape
        return Source(self.plan.checkpoint, tensor, shape, self.plan.merged.get(tensor))

    def vector(self, name: str, **changes: Any) -> ir.Value:
        """Store a bias or norm parameter in float32, its source changed as asked."""
        return self.graph.stored(Dense(name, replace(self.source(name), **changes)))[0]

    def linear(self, x: ir.Value, module: str, carried: Array | None = None) -> ir.Value:
        """Return x W^T + b, plus the factors at an adapter site, which read x as it is.

        Args:
            x: what it reads.
            module: its name.
            carried: (out,) what is added to its output besides.
        """
        source = self.linear_source(module)
        y = self.multiply(x, f"{module}.weight", source)
        name = f"{module}.bias"
        bias = self.bias(x, module, carried) if self.has_bias(name) else None
        read = self.exact(x) if source.tensor in self.factors.slots else x
        return self.factors.finish(read, y, bias, module, source.tensor, source.shape)

    def bias(
        self, x: ir.Value, module: str, carried: Array | None = None, **changes: Any
    ) -> ir.Value:
        """Store a linear's bias, with what was taken off its input and what it carries.

        Args:
            x: what the linear reads.
            module: its name.
            carried: (out,) what is added to its output besides.
            changes: of the sources of bias and weight, such as `row_scale`.
        """
        name = f"{module}.bias"
        smooth = self.smoothed.get(str(x.name))
        shift = smooth.shift if smooth is not None else None
        if shift is None and carried is None:
            return self.vector(name, **changes)
        source = replace(self.source(name), **changes)
        weight = replace(self.linear_source(module), **changes) if shift is not None else None
        return self.graph.stored(Folded(name, source, weight, shift, carried))[0]

    def exact(self, x: ir.Value) -> ir.Value:
        """Return x with what was taken off it for its quantized readers."""
        smooth = self.smoothed.get(str(x.name))
        if smooth is None or smooth.shift is None:
            return x
        shift = self.graph.constant(smooth.shift.astype(np.float32))
        return self.graph.shared("Add", x, 1, [shift])[0]

    def linear_source(self, module: str) -> Source:
        """Return where a linear's weight (out, in) comes from."""
        return self.source(f"{module}.weight")

    def has_bias(self, name: str) -> bool:
        """Say whether a linear has a bias of this name."""
        return True

    def multiply(self, x: ir.Value, name: str, source: Source) -> ir.Value:
        """Return x W^T in the scheme, reading x smoothed where it is."""
        smooth = self.smoothed.get(str(x.name))
        if smooth is not None:
            x, source = smooth.value, replace(source, column_scale=smooth.divisor)
        known = self.known.get(str(x.name))
        if name.removesuffix(".weight") in self.finer:
            known = replace(known or Known(), finer=True)
        return self.plan.scheme.linear(self.graph, x, name, source, known)

    def activation(self, x: ir.Value) -> ir.Value:
        """Apply the feed-forward activation the config names."""
        name = str(self.plan.recipe.size(self.plan.config, "activation"))
        if name not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise EdgeError(f"config.json: found activation {name!r}, expected one of {known}")
        kind = ACTIVATIONS[name]
        if kind == "none" and self.plan.remedies.tanh_gelu and self.plan.scheme.smooths:
            # 5e-4 off at most, where a step of the integers behind it is some 2e-2. MiniLM 1x128:
            # 130 -> 100 us a layer (AVX-512).
            kind = "tanh"
        if kind == "relu":
            return self.graph.op("Relu", [x])
        if kind == "silu":
            return self.graph.op("QuickGelu", [x], MICROSOFT, alpha=1.0)
        return self.graph.op("Gelu", [x], approximate=kind)
