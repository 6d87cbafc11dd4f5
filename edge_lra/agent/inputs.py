"""What a measured run is fed, and how its session is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge_lra.agent.adapter import pick_adapter
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.runner import opening
from edge_lra.runner.adapters import AdapterStore
from edge_lra.runner.external import model_path
from edge_lra.runner.session import decoder_feeds

Arrays = dict[str, np.ndarray]
Shape = tuple[int, int]  # (batch, tokens)


def token_inputs(folder: Path, names: Sequence[str], shape: Shape) -> Arrays:
    """Return what a run is fed, by name.

    Token ids (batch, tokens) are random ones of the vocabulary with every token attended. Other
    inputs have the sizes of the export's example, but for axes that are named as a shape's: floats
    are normal, integers 0 and truth values true, which every model takes.

    Raises:
        EdgeError: the bundle has no such input.
    """
    manifest = load_manifest(folder)
    nodes = {node["name"]: node for node in manifest["inputs"]}
    unknown = [name for name in names if name not in nodes]
    if unknown:
        raise EdgeError(
            f"{folder}: found the input {unknown[0]!r}, expected one of {', '.join(nodes)}; "
            "the bundle has no other"
        )
    random = np.random.default_rng(0)
    return {name: _values(nodes[name], manifest, folder, shape, random) for name in names}


def _values(
    node: Mapping[str, Any],
    manifest: Mapping[str, Any],
    folder: Path,
    shape: Shape,
    random: np.random.Generator,
) -> np.ndarray:
    """Return one input's values."""
    name, dtype = node["name"], np.dtype(node["dtype"])
    sizes = _sizes(node, shape)
    if name == "input_ids" and dtype.kind in "iu":
        ids: np.ndarray = random.integers(1, _vocabulary(manifest, folder), sizes)
        return ids.astype(dtype)
    if dtype.kind == "f":
        return random.normal(size=sizes).astype(dtype)
    filled = np.ones if name == "attention_mask" or dtype.kind == "b" else np.zeros
    return filled(sizes, dtype)


def _sizes(node: Mapping[str, Any], shape: Shape) -> list[int]:
    """Return an input's sizes: a shape's for axes of those names, else the example's."""
    batch, tokens = shape
    named = {"batch": batch, "sequence": tokens, "total_sequence": tokens}
    example = node.get("example") or [1] * len(node["shape"])
    return [
        axis if isinstance(axis, int) else named.get(axis, size)
        for axis, size in zip(node["shape"], example, strict=True)
    ]


def _vocabulary(manifest: Mapping[str, Any], folder: Path) -> int:
    """Return the number of token ids; older bundles have it in their config alone."""
    known = manifest.get("vocabulary_size")
    config = {} if known else json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(known or config["vocab_size"])


def all_inputs(folder: Path, shape: Shape, adapter: str | None) -> Arrays:
    """Return everything the graph takes: tokens, an adapter's tensors, and no past."""
    manifest = load_manifest(folder)
    tokens = token_inputs(folder, [node["name"] for node in manifest["inputs"]], shape)
    store = AdapterStore(folder, manifest, verify=False)
    factors = store.tensors(pick_adapter(manifest, adapter))
    return {**tokens, **decoder_feeds(manifest, tokens, factors)}


def session_options(folder: Path, threads: int) -> Any:
    """Return onnxruntime's options as the runner sets them for this bundle."""
    return opening.session_options(load_manifest(folder), threads)


def open_session(folder: Path, options: Any) -> Any:
    """Open a bundle's graph for the CPU.

    Raises:
        EdgeError: onnxruntime cannot, or it reads data that is not its own.
    """
    path = str(model_path(folder, load_manifest(folder)))
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes share no public base
        reason = str(error).strip().partition("\n")[0]
        raise EdgeError(f"{folder}: onnxruntime cannot open it: {reason}") from error


def shape_of(value: Sequence[int]) -> Shape:
    """Return a request's shape as (batch, tokens)."""
    batch, tokens = value
    return int(batch), int(tokens)
