"""What a graph is built from, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from edge_lra.adapters import Update
from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.builder import GraphBuilder
from edge_lra.graph.factors import AdapterInput, Slot
from edge_lra.quantize.schemes import Scheme
from edge_lra.recipe import Recipe
from edge_lra.weights import Array

LAYER_OUTPUT = "layer.{i}.output"


@dataclass(frozen=True)
class Plan:
    """What a graph is built from.

    Attributes:
        names: checkpoint tensor name by recipe name (without the family's prefix).
        merged: updates by checkpoint tensor name, folded into the weights.
        slots: what adapters do as graph inputs, by the checkpoint's name of a linear's weight.
        replacements: tensors an adapter brings, by recipe name, in place of the checkpoint's.
        parted: tensors that shared another's values and no longer do -> the other.
        head_inputs: take the task head's last tensors as graph inputs.
        adapter_dtype: of the adapters' graph inputs, "float32" or "float16".
    """

    recipe: Recipe
    config: Mapping[str, Any]
    checkpoint: Checkpoint
    scheme: Scheme
    task: str
    names: Mapping[str, str]
    merged: Mapping[str, Update] = field(default_factory=dict)
    slots: Mapping[str, Slot] = field(default_factory=dict)
    replacements: Mapping[str, Array] = field(default_factory=dict)
    parted: Mapping[str, str] = field(default_factory=dict)
    head_inputs: bool = False
    adapter_dtype: str = "float32"


@dataclass(frozen=True)
class Built:
    """A graph without weights, and what is needed to write and feed it.

    Attributes:
        decoder: the manifest's entry of a decoder; None for other models.
        min_onnxruntime: the oldest release whose operators compute what the graph means; the
            scheme may need a newer one.
    """

    model: ir.Model
    builder: GraphBuilder
    inputs: tuple[tuple[str, tuple[int | str, ...]], ...]
    outputs: tuple[tuple[str, tuple[int | str, ...]], ...]
    adapter_inputs: tuple[AdapterInput, ...]
    decoder: dict[str, Any] | None = None
    min_onnxruntime: str = "1.20.0"
