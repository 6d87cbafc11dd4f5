"""The linears of an encoder's layers, and the values that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.quantize.mixed import READS
from edge_lra.weights import Source


@dataclass(frozen=True)
class Linear:
    """One linear of a layer.

    Attributes:
        module: its name in the recipe.
        name: its name in the checkpoint, which plans use.
        layer: its index.
        role: what it does there, by the recipe.
        value: names what it reads; linears of one value share its rounding.
        first: it reads the first token of a text alone.
        source: its weight's, (out, in).
    """

    module: str
    name: str
    layer: int
    role: str
    value: str
    first: bool
    source: Source


def find_linears(build: EncoderBuilder) -> list[Linear]:
    """Return the linears of every layer, in the model's order."""
    found, entered = [], build.recipe.embeddings["norm"]
    count = build.recipe.count(build.plan.config, "layers")
    for layer in range(count):
        names = {role: name.format(i=layer) for role, name in build.recipe.layer.items()}
        last = layer == count - 1 and reads_first(build)
        for role, reading in READS.items():
            module = names[role]
            source = build.linear_source(module)
            first = last and role not in ("key", "value")
            value = f"{read_by(reading, names, entered)}{' first' if first else ''}"
            name = source.tensor.removesuffix(".weight")
            found.append(Linear(module, name, layer, role, value, first, source))
        entered = names["output_norm"]
    return found


def reads_first(build: EncoderBuilder) -> bool:
    """Say whether the task's head reads the first token of the last layer alone."""
    head = build.recipe.heads.get(build.plan.task)
    return head is not None and head.first_token


def read_by(reading: str, names: Mapping[str, str], entered: str) -> str:
    """Return the name under which a run remembers what linears of a role read.

    Args:
        reading: of `READS`.
        names: of the layer's modules by role.
        entered: the norm whose output enters the layer.
    """
    return names[reading] if reading else entered
