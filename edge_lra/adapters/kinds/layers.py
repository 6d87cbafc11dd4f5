"""The classical adapter: two fully connected layers at a module's output (Houlsby et al. 2019).

    serial            y' = s (U a(D y + c) + u)
    serial-residual   y' = y + s (U a(D y + c) + u)
    parallel          y' = y + s (U a(D x + c) + u)

x is what the module reads, y what it returns. Without an activation a the two fold into the
module's own weight and bias exactly; with one they cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra.adapters.kinds.method import Method, Site, Updates
from edge_lra.adapters.kinds.rules import Rules, factor, positive, wrong
from edge_lra.adapters.kinds.update import Array, product
from edge_lra.errors import EdgeError

KINDS = ("serial", "serial-residual", "parallel")
TYPE = "low-rank-layers"
PARTS = ("adapter_down.weight", "adapter_down.bias", "adapter_up.weight", "adapter_up.bias")


def _gelu(x: Array) -> Array:
    half = np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2))
    result: Array = 0.5 * x * (1 + half)
    return result


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


@dataclass(frozen=True)
class Layers:
    """The two layers of one site."""

    kind: str
    activation: str
    down: Array  # (rank, outputs of the module, or its inputs where parallel)
    down_bias: Array  # (rank,)
    up: Array  # (out, rank)
    up_bias: Array  # (out,)
    scale: float

    @property
    def linear(self) -> bool:
        """Whether they fold into the module's weight."""
        return self.activation == "linear"

    @property
    def keeps(self) -> float:
        """1 where the module's own output is added, 0 where it is replaced."""
        return 0.0 if self.kind == "serial" else 1.0

    def apply(self, x: Array, y: Array) -> Array:
        """Return the adapted output for the module's input (.., in) and output (.., out)."""
        read = (x if self.kind == "parallel" else y).astype(np.float64)
        inner = ACTIVATIONS[self.activation](read @ self.down.T + self.down_bias)
        return self.keeps * y + self.scale * (inner @ self.up.T + self.up_bias)

    def change_of_bias(self, bias: Array) -> Array:
        """Return U(D b + c) + u, or U c + u in parallel, scaled: what folds into the bias."""
        inner = self.down_bias.astype(np.float64)
        if self.kind != "parallel":
            inner = inner + product(self.down, bias.reshape(-1, 1))[:, 0]
        folded = product(self.up, inner.reshape(-1, 1))[:, 0] + self.up_bias
        result: Array = self.scale * folded
        return result


@dataclass(frozen=True)
class LayersWeight:
    """W' = (I + s U D) W in series, s U D W where it replaces the output, W + s U D beside it."""

    layers: Layers
    transposed: bool = False
    additive: bool = False

    @property
    def rowwise(self) -> bool:
        """A series mixes the outputs, which are the rows unless they are stored as columns."""
        return self.transposed or self.layers.kind == "parallel"

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Fold the layers in.

        Raises:
            EdgeError: an activation stands between them.
        """
        layers = self.layers
        if not layers.linear:
            raise EdgeError(cannot_fold(layers.activation))
        down, up = layers.down, layers.up * layers.scale
        if self.transposed:
            read = down.T[start : start + len(rows)] if layers.kind == "parallel" else None
            lowered = product(rows, down.T) if read is None else read
            return layers.keeps * rows + product(lowered, up.T)
        if layers.kind == "parallel":
            return rows + product(up[start : start + len(rows)], down)
        return layers.keeps * rows + product(up, product(down, rows))


@dataclass(frozen=True)
class LayersBias:
    """b' = b + s (U (D b + c) + u), without b where it replaces the output, D b in parallel."""

    layers: Layers
    additive: bool = False
    rowwise: bool = False

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Fold the layers in."""
        return self.layers.keeps * rows + self.layers.change_of_bias(rows)


def cannot_fold(activation: str) -> str:
    """Return why a nonlinear adapter cannot be merged."""
    return (
        f"found an adapter with {activation} between its layers, expected a linear one to merge; "
        "no weight does the same (the best affine fit leaves 14 %), use --factored"
    )


@dataclass(frozen=True)
class Options:
    """The settings of an adapter of two layers."""

    kind: str
    activation: str
    rank: int
    scale: float


def parse(config: Mapping[str, Any], where: str) -> Options:
    """Validate the settings."""
    if config.get("format_version") != 1:
        raise wrong(where, "format_version", config.get("format_version"), "1")
    for key, known in (("kind", KINDS), ("activation", tuple(ACTIVATIONS))):
        if config.get(key) not in known:
            raise wrong(where, key, config.get(key), f"one of {', '.join(known)}")
    rank = positive(where, "rank", config.get("rank"))
    scale = factor(where, "scale", config.get("scale", 1))
    return Options(config["kind"], config["activation"], rank, scale)


def read(site: Site, options: Options, _: Mapping[str, Array]) -> Updates:
    """Return a site's two layers as updates of its weight and its bias."""
    down, down_bias, up, up_bias = site.take(*PARTS)
    rank = options.rank
    width, outputs = down.shape[-1], len(up)
    if site.shape is not None:
        outputs = site.outputs()
        inputs = site.shape[0] if site.transposed else site.shape[1]
        width = inputs if options.kind == "parallel" else outputs
    found = [part.shape for part in (down, down_bias, up, up_bias)]
    wanted = [(rank, width), (rank,), (outputs, rank), (outputs,)]
    if found != wanted:
        raise EdgeError(
            f"{site.where}: found layers {found}, expected {wanted}; is this adapter for another "
            "base?"
        )
    layers = Layers(options.kind, options.activation, down, down_bias, up, up_bias, options.scale)
    updates: Updates = {"weight": LayersWeight(layers, site.transposed)}
    if site.has_bias:
        updates["bias"] = LayersBias(layers)
    elif np.any(layers.change_of_bias(np.zeros(outputs))):
        raise EdgeError(
            f"{site.where}: found an adapter with biases on a module without one, expected a "
            "bias to fold them into; adapt a module that has one"
        )
    return updates


LAYERS = Method(
    TYPE,
    Rules(
        frozenset({"activation", "adapter_type", "format_version", "kind", "rank", "scale"}),
        frozenset({"sites"}),
    ),
    PARTS,
    parse,
    read,
)
