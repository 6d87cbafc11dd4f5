"""What a graph is built from, and what comes out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from edge_lra.adapters import Update
from edge_lra.calibration import Calibration
from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.builder import GraphBuilder
from edge_lra.graph.factors import AdapterInput, Slot
from edge_lra.quantize.readings import Read
from edge_lra.quantize.remedies import Remedies
from edge_lra.quantize.schemes import Scheme
from edge_lra.recipe import Recipe
from edge_lra.weights import Array

LAYER_OUTPUT = "layer.{i}.output"
# Of what enters a decoder's last layer, the tokens whose logits are given.
LAST_TOKENS = "last_tokens"
# The model's metadata, by this and a value's name: the constant that the value is held less of. Not
# the node's, which onnxruntime does not write into a graph that it optimized.
SHIFT = "edge_lra.shift."


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
        calibration: what an encoder is calibrated with; None for random ids.
        remedies: what an encoder's graph does against the error of integers.
        extra_rank: of the factors that make up for each rounded weight's error; 0 for none.
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
    calibration: Calibration | None = None
    remedies: Remedies = field(default_factory=Remedies)
    extra_rank: int = 0

    @property
    def texts(self) -> Sequence[Array]:
        """The token ids (tokens,) of each text to calibrate with; none for random ids."""
        return self.calibration.texts if self.calibration else ()

    @property
    def types(self) -> Sequence[Array]:
        """The token types (tokens,) of each text to calibrate with; none for 0 throughout."""
        return self.calibration.types if self.calibration else ()


@dataclass(frozen=True)
class Built:
    """A graph without weights, and what is needed to write and feed it.

    Attributes:
        decoder: the manifest's entry of a decoder; None for other models.
        min_onnxruntime: the oldest release whose operators compute what the graph means; the
            scheme may need a newer one.
        reads: what linears read, by the checkpoint's names of their weights; only where adapters
            are to be fitted to the rounded base.
        finer_sites: modules whose weights have more bits than the scheme gives to others.
    """

    model: ir.Model
    builder: GraphBuilder
    inputs: tuple[tuple[str, tuple[int | str, ...]], ...]
    outputs: tuple[tuple[str, tuple[int | str, ...]], ...]
    adapter_inputs: tuple[AdapterInput, ...]
    decoder: dict[str, Any] | None = None
    min_onnxruntime: str = "1.20.0"
    reads: Mapping[str, Read] = field(default_factory=dict)
    finer_sites: tuple[str, ...] = ()


def write_shift(shift: Array) -> str:
    """Return a vector (hidden,) as a text of metadata."""
    return base64.b64encode(shift.astype("<f4").tobytes()).decode()


def read_shift(text: str) -> Array:
    """Return the vector (hidden,) float32 that a text of `write_shift` holds."""
    return np.frombuffer(base64.b64decode(text), "<f4")
