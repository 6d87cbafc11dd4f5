"""What comes after an encoder: the task's head, and the outputs as transformers names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edge_lra.recipe import HeadLayer
from edge_lra.weights import Dense

if TYPE_CHECKING:
    from edge_lra.graph.encoder import EncoderBuilder

Output = tuple[str, ir.Value, tuple[int | str, ...]]  # name, value, axes


def write_outputs(
    build: EncoderBuilder, x: ir.Value
) -> list[tuple[str, ir.Value, tuple[int | str, ...]]]:
    """Name the outputs as transformers and Optimum do."""
    if build.plan.task in ("feature-extraction", "sentence-embedding"):
        width = build.source(build.recipe.embeddings["word"]).shape[1]
        return [("last_hidden_state", x, ("batch", "sequence", width))]
    head = build.recipe.heads[build.plan.task].layers[-1].linear
    width_of = build.source(f"{head}.weight").shape[0]
    labels: int | str = "labels" if build.plan.head_inputs else width_of
    x = write_head(build, x)
    if build.plan.task == "question-answering":
        zero, one = (build.graph.constant(np.array(i, np.int64)) for i in (0, 1))
        start = build.graph.op("Gather", [x, zero], axis=-1)
        end = build.graph.op("Gather", [x, one], axis=-1)
        shape = ("batch", "sequence")
        return [("start_logits", start, shape), ("end_logits", end, shape)]
    axes: tuple[str, ...] = (
        ("batch",) if build.plan.task == "sequence-classification" else ("batch", "sequence")
    )
    return [("logits", x, (*axes, labels))]


def write_head(build: EncoderBuilder, x: ir.Value) -> ir.Value:
    """Write the task head in float32: it is small and its error is the answer's."""
    head = build.recipe.heads[build.plan.task]
    if head.first_token:
        x = build.graph.op("Gather", [x, build.graph.constant(np.array(0, np.int64))], axis=1)
    for index, layer in enumerate(head.layers):
        x = write_layer(build, x, layer, index == len(head.layers) - 1)
    return x


def write_layer(build: EncoderBuilder, x: ir.Value, layer: HeadLayer, last: bool) -> ir.Value:
    """Write one linear of the head, its parameters stored or given as inputs."""
    weight_name, bias_name = f"{layer.linear}.weight", f"{layer.linear}.bias"
    source = build.source(weight_name)
    out, width = source.shape
    if build.plan.head_inputs and not layer.encoder:
        axis: int | str = "labels" if last else out
        weight = build.factors.input(weight_name, (weight_name,), "weight", (width, axis))
        bias = build.factors.input(bias_name, (bias_name,), "bias", (axis,))
    else:
        weight = build.graph.stored(Dense(weight_name, source, transpose=True))[0]
        bias = build.vector(bias_name)
    y = build.graph.op("MatMul", [x, weight])
    x = build.factors.finish(x, y, bias, layer.linear, source.tensor, source.shape)
    if layer.activation:
        x = build.graph.op(layer.activation.capitalize(), [x])
    return x
