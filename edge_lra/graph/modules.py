"""What every family's builder does with a plan: weights by name, linears in the scheme."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from edge_lra.errors import EdgeError
from edge_lra.graph.builder import GraphBuilder
from edge_lra.graph.factors import FactorWriter
from edge_lra.graph.plan import Plan
from edge_lra.weights import Array, Dense, Source

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

    def linear(self, x: ir.Value, module: str) -> ir.Value:
        """Return x W^T + b, plus the factors at an adapter site, which read x unsmoothed."""
        source = self.linear_source(module)
        y = self.multiply(x, f"{module}.weight", source)
        name = f"{module}.bias"
        known = self.has_bias(name)
        bias = self.vector(name) if known else None
        return self.factors.finish(x, y, bias, module, source.tensor, source.shape)

    def linear_source(self, module: str) -> Source:
        """Return where a linear's weight (out, in) comes from."""
        return self.source(f"{module}.weight")

    def has_bias(self, name: str) -> bool:
        """Say whether a linear has a bias of this name."""
        return True

    def multiply(self, x: ir.Value, name: str, source: Source) -> ir.Value:
        """Return x W^T in the scheme, reading x smoothed where it is."""
        smooth = self.smoothed.get(str(x.name))
        if smooth is None:
            return self.plan.scheme.linear(self.graph, x, name, source)
        scaled = replace(source, column_scale=smooth.divisor)
        return self.plan.scheme.linear(self.graph, smooth.value, name, scaled)

    def activation(self, x: ir.Value) -> ir.Value:
        """Apply the feed-forward activation the config names."""
        name = str(self.plan.recipe.size(self.plan.config, "activation"))
        if name not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise EdgeError(f"config.json: found activation {name!r}, expected one of {known}")
        kind = ACTIVATIONS[name]
        if kind == "relu":
            return self.graph.op("Relu", [x])
        if kind == "silu":
            return self.graph.op("QuickGelu", [x], MICROSOFT, alpha=1.0)
        return self.graph.op("Gelu", [x], approximate=kind)
