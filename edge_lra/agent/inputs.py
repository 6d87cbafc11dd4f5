"""What a measured run is fed, and how its session is opened."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge_lra.agent.adapter import pick_adapter
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.runner.adapters import AdapterStore
from edge_lra.runner.session import decoder_feeds

Arrays = dict[str, np.ndarray]
Shape = tuple[int, int]  # (batch, tokens)


def token_inputs(folder: Path, names: Sequence[str], shape: Shape) -> Arrays:
    """Return random token ids (batch, tokens) of the vocabulary with every token attended."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    random = np.random.default_rng(0)
    values = {
        "input_ids": random.integers(1, int(config["vocab_size"]), shape, dtype=np.int64),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    unknown = [name for name in names if name not in values]
    if unknown:
        raise EdgeError(
            f"{folder}: found the input {unknown[0]!r}, expected one of {', '.join(values)}; "
            "this profiler does not know how to feed it"
        )
    return {name: values[name] for name in names}


def all_inputs(folder: Path, shape: Shape, adapter: str | None) -> Arrays:
    """Return everything the graph takes: tokens, an adapter's tensors, and no past."""
    manifest = load_manifest(folder)
    tokens = token_inputs(folder, [node["name"] for node in manifest["inputs"]], shape)
    store = AdapterStore(folder, manifest, verify=False)
    factors = store.tensors(pick_adapter(manifest, adapter))
    return {**tokens, **decoder_feeds(manifest, tokens, factors)}


def session_options(folder: Path, threads: int) -> Any:
    """Return onnxruntime's options as the runner sets them for this bundle."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    for key, value in (load_manifest(folder).get("session_options") or {}).items():
        options.add_session_config_entry(key, str(int(value) if value in (True, False) else value))
    return options


def open_session(folder: Path, options: Any) -> Any:
    """Open a bundle's graph for the CPU.

    Raises:
        EdgeError: onnxruntime cannot.
    """
    path = str(folder / "model.onnx")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes share no public base
        reason = str(error).strip().partition("\n")[0]
        raise EdgeError(f"{folder}: onnxruntime cannot open it: {reason}") from error


def shape_of(value: Sequence[int]) -> Shape:
    """Return a request's shape as (batch, tokens)."""
    batch, tokens = value
    return int(batch), int(tokens)
