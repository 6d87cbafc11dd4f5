"""What a bundle's graph is given: tokens without padding, and an adapter's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.profile.estimate.shapes import Value
from edge_lra.profile.latencies import Shape


def token_values(manifest: Mapping[str, Any], shape: Shape) -> dict[str, Value]:
    """Return the token inputs of one shape; every token is attended."""
    values = {}
    for node in manifest["inputs"]:
        dtype = np.dtype(node["dtype"])
        attended = np.ones(shape, dtype) if node["name"] == "attention_mask" else None
        values[node["name"]] = Value(shape, dtype, known=attended)
    return values


def adapter_values(
    folder: Path, manifest: Mapping[str, Any], adapter: str | None
) -> dict[str, Value]:
    """Return the shapes of the inputs an adapter fills, its data unread; none where it is merged.

    Args:
        folder: the bundle.
        manifest: its manifest.
        adapter: a name; None for the default, else the first.

    Raises:
        EdgeError: the adapter is unknown or its file is missing.
    """
    nodes = {node["name"]: node for node in manifest.get("adapter_inputs") or ()}
    entries = (manifest.get("adapters") or {}) if nodes else {}
    name = adapter or manifest.get("default_adapter") or next(iter(entries), None)
    if adapter is not None and adapter not in entries:
        raise EdgeError(
            f"adapter: found {adapter!r}, expected one of: {', '.join(entries) or 'none'}"
        )
    shapes = {key: tuple(node["off_shape"]) for key, node in nodes.items()}
    if name is not None and nodes:
        shapes |= _stored_shapes(folder / entries[name]["file"], name)
    return {key: Value(shape, np.dtype(np.float32)) for key, shape in shapes.items()}


def _stored_shapes(file: Path, name: str) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as tensors:
            names = list(tensors.keys())
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in names}
    except (OSError, SafetensorError) as error:
        raise EdgeError(f"adapter {name}: {file} cannot be read: {error}") from error


def check_shapes(manifest: Mapping[str, Any], shapes: Sequence[Shape]) -> None:
    """Refuse shapes that the bundle cannot run.

    Raises:
        EdgeError: no shape, an empty one, or one longer than the model.
    """
    if not shapes:
        raise EdgeError("shape: found none, expected at least one such as 1x128")
    longest = manifest.get("max_length")
    for batch, tokens in shapes:
        if batch < 1 or tokens < 1 or (longest and tokens > longest):
            raise EdgeError(
                f"shape: found {batch}x{tokens}, expected at least 1 text of 1 to "
                f"{longest or 'any'} tokens"
            )
