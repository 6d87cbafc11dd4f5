"""Every kind of adapter as graph inputs, against the same one merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edge_lra.adapters import Adapter, LowRank
from edge_lra.adapters.factored import with_factors
from edge_lra.adapters.kinds.ia3 import Scaling
from edge_lra.adapters.kinds.layers import Layers, LayersBias, LayersWeight
from edge_lra.adapters.kinds.low_rank import Dora
from edge_lra.adapters.kinds.update import Shift
from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.builder import GraphBuilder
from edge_lra.graph.factors import FactorWriter, Slot
from edge_lra.packing import adapter_tensors, off_shape
from edge_lra.planning import adapter_slots
from tests.graph.encoders import checkpoint, export, run, tokens


def dora(shape: tuple[int, ...], random: np.random.Generator) -> Dora:
    low_rank = LowRank(random.normal(size=(2, shape[1])), random.normal(size=(shape[0], 2)), 0.08)
    return Dora(low_rank, random.uniform(0.2, 0.4, shape[0]))


def shifted(shape: tuple[int, ...], random: np.random.Generator) -> Shift:
    return Shift(random.normal(size=shape) * 0.1)


def two_layers(kind: str, activation: str, shape: tuple[int, ...], seed: int) -> Layers:
    random = np.random.default_rng(seed)
    width = shape[1] if kind == "parallel" else shape[0]
    parts = [random.normal(size=size) * 0.3 for size in ((3, width), 3, (shape[0], 3), shape[0])]
    return Layers(kind, activation, *parts, 0.7)  # type: ignore[arg-type]


ROLES = ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense")


def updates_of(base: Checkpoint, kind: str) -> dict[str, Any]:
    """Return updates of four linears of the first layer, their biases among them."""
    random = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for seed, role in enumerate(ROLES):
        weight, bias = (f"encoder.layer.0.{role}.{part}" for part in ("weight", "bias"))
        shape = base.tensors[weight].shape
        if kind == "dora with a bias":
            found |= {weight: dora(shape, random), bias: shifted(shape[:1], random)}
        elif kind == "ia3":
            vector = random.uniform(-20, 20, shape[0])  # its base outputs are small
            found |= {weight: Scaling(vector), bias: Scaling(vector)}
        else:
            layers = two_layers(kind, "linear", shape, seed)
            found |= {weight: LayersWeight(layers), bias: LayersBias(layers)}
    return found


KINDS = ("dora with a bias", "ia3", "serial", "serial-residual", "parallel")


@pytest.mark.parametrize("scheme", ["none", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_as_inputs_every_kind_gives_the_merged_answer_and_can_be_off(
    tmp_path: Path, kind: str, scheme: str
) -> None:
    task, name = "feature-extraction", "last_hidden_state"
    base = checkpoint(tmp_path / "base", "bert", task)
    updates = updates_of(base, kind)
    adapter = with_factors(Adapter("a", tmp_path, updates, {}, None, None, {}), base)
    plain = export(base, tmp_path / "plain", "none", task)
    export(base, tmp_path / "merged", "none", task, merged=updates)
    built = export(base, tmp_path / "factored", scheme, task, slots=adapter_slots([adapter]))
    feeds = tokens(plain)
    on = adapter_tensors(adapter, built.adapter_inputs)
    off = {i.name: np.zeros(off_shape(i), np.float32) for i in built.adapter_inputs}
    mask = feeds["attention_mask"].astype(bool)
    merged = run(tmp_path / "merged", feeds)[name][mask]
    bare = run(tmp_path / "plain", feeds)[name][mask]
    found = run(tmp_path / "factored", feeds | on)[name][mask]
    rest = run(tmp_path / "factored", feeds | off)[name][mask]
    limit = 1e-5 if scheme == "none" else 0.05
    assert np.linalg.norm(found - merged) < limit * np.linalg.norm(merged)
    assert np.linalg.norm(rest - bare) < limit * np.linalg.norm(bare)
    assert np.linalg.norm(merged - bare) > 0.15 * np.linalg.norm(bare)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("kind", ["serial", "serial-residual", "parallel"])
def test_the_graph_computes_a_bottleneck_as_its_formula_says(kind: str, activation: str) -> None:
    layers = two_layers(kind, activation, (4, 6), 0)
    graph = GraphBuilder()
    x, y = (graph.input(n, "float32", ("rows", w)) for n, w in (("x", 6), ("y", 4)))
    writer = FactorWriter(graph, {"w.weight": Slot(layers=(kind, activation))})
    out = writer.layers(x, y, "w", "w.weight", (4, 6))
    model = ir.to_proto(graph.model([("out", out, ("rows", 4))], "g")).SerializeToString()
    random = np.random.default_rng(1)
    feeds = {"x": random.normal(size=(5, 6)), "y": random.normal(size=(5, 4))}
    given = Adapter("a", Path(), {}, {}, None, None, {}, layers={"w.weight": layers})
    inputs = adapter_tensors(given, writer.inputs) | feeds
    session = onnxruntime.InferenceSession(model)
    (found,) = session.run(None, {k: v.astype("f") for k, v in inputs.items()})
    np.testing.assert_allclose(found, layers.apply(feeds["x"], feeds["y"]), atol=1e-5)
