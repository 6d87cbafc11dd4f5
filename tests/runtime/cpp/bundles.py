"""Bundles of a few bytes, made to be broken in one way each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from edge_lra.bundle import sha256_file
from tests.runner.tiny_decoder import node, write_manifest

WIDTH, VOCABULARY, LONGEST = 4, 50, 8
INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def tiny_model() -> onnx.ModelProto:
    """Return a graph that gives an embedding of each token, and adds a low-rank product."""
    value = helper.make_tensor_value_info
    table = np.arange(VOCABULARY * WIDTH, dtype=np.float32).reshape(VOCABULARY, WIDTH) / 100
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["x", "wide"], ["masked"]),
        helper.make_node("MatMul", ["masked", "down"], ["low"]),
        helper.make_node("MatMul", ["low", "up"], ["high"]),
        helper.make_node("Add", ["masked", "high"], ["hidden"]),
    ]
    tokens = ["batch", "sequence"]
    inputs = [
        value("input_ids", INT64, tokens),
        value("attention_mask", INT64, tokens),
        value("down", FLOAT, [WIDTH, "rank"]),
        value("up", FLOAT, ["rank", WIDTH]),
    ]
    outputs = [value("hidden", FLOAT, [*tokens, WIDTH])]
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([-1]), "last"),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def write_tiny(folder: Path, change: Callable[[onnx.ModelProto], None] | None = None) -> Path:
    """Write a factored bundle with the adapters `one` and `two`; `change` alters its graph."""
    (folder / "adapters").mkdir(parents=True)
    model = tiny_model()
    options = {"save_as_external_data": True, "size_threshold": 64, "location": "model.onnx.data"}
    onnx.save_model(model, folder / "model.onnx", **options)
    if change is not None:
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    base = sha256_file(folder / "model.onnx.data")
    entries = {}
    for rank, name in ((1, "one"), (2, "two")):
        factors = np.full((WIDTH, rank), 0.5 * rank, np.float32)
        save_file(
            {"down": factors, "up": np.ascontiguousarray(factors.T)},
            folder / f"adapters/{name}.safetensors",
        )
        entries[name] = {"file": f"adapters/{name}.safetensors", "base": base, "labels": [name]}
    factor = {"dtype": "float32", "off_shape": [0], "tensors": [], "index": 0, "layers": None}
    manifest: dict[str, Any] = {
        "format_version": 1,
        "name": "tiny",
        "task": "feature-extraction",
        "mode": "factored",
        "inputs": [
            node("input_ids", "int64", ["batch", "sequence"]),
            node("attention_mask", "int64", ["batch", "sequence"]),
        ],
        "outputs": [node("hidden", "float32", ["batch", "sequence", WIDTH])],
        "adapter_inputs": [
            factor | {"name": "down", "shape": [WIDTH, "rank"]},
            factor | {"name": "up", "shape": ["rank", WIDTH]},
        ],
        "adapters": entries,
        "default_adapter": "one",
        "head": None,
        "labels": ["base"],
        "base_fingerprint": base,
        "vocabulary_size": VOCABULARY,
        "max_length": LONGEST,
        "min_onnxruntime": "1.20.0",
        "session_options": {"session.x64quantprecision": True},
        "golden": {"count": 0, "adapters": [], "kernel_spread": 0},
    }
    write_manifest(folder, manifest)
    return folder


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Alter the manifest and seal it; the recorded files stay as they are."""
    from edge_lra.bundle import seal

    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_bytes(seal(manifest))


def tokens(rows: int = 1, count: int = 3) -> dict[str, np.ndarray]:
    """Return inputs of a run."""
    ids = np.arange(rows * count, dtype=np.int64).reshape(rows, count) % VOCABULARY
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
