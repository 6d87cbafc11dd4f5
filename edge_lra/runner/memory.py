"""Whether a bundle fits in memory, said before it is loaded and not by the system's killer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError

# Peak resident memory of loading over the size of the graph's weights, SmolLM2-135M, onnxruntime
# 1.32: 1.02, 1.08, 1.28, 1.38. MatMulNBits keeps a repacked copy and its scales. What the graph
# reads by two names counts twice: the peak is the same with a table of its own.
FACTORS = {"none": 1.05, "int8": 1.1, "int8-weight-only": 1.3, "int4": 1.4}
WORST = 1.4
PREPACKED = 1.05  # the copies are in the file; all of it is never resident (0.67)
PROCESS_BYTES = 64 << 20  # Python with onnxruntime, before a session
SMALL = 256 << 20  # what any machine has: psutil is not asked, nor imported
GIB = 2**30


def available_bytes() -> int | None:
    """Return what the system can give without swapping; None without psutil."""
    try:
        import psutil
    except ImportError:  # the runner alone can do without
        return None
    return int(psutil.virtual_memory().available)


def weights_bytes(manifest: Mapping[str, Any]) -> int:
    """Return the size of a bundle's weights."""
    files = manifest["files"]
    names = ("model.onnx", "model.onnx.data", "model.ort")
    return sum(files[name]["size"] for name in names if name in files)


def shared_bytes(manifest: Mapping[str, Any]) -> int:
    """Return the size of the weights that a bundle's graph reads by two names."""
    return int((manifest.get("decoder") or {}).get("shared_bytes", 0))


def unshared(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a manifest's entry of a decoder for weights that onnxruntime wrote name by name."""
    decoder = manifest.get("decoder")
    return decoder and {**decoder, "shared_bytes": 0}


def session_bytes(manifest: Mapping[str, Any]) -> int:
    """Return what a process with a bundle's session takes at its peak."""
    factor = FACTORS.get(manifest.get("scheme", ""), WORST)
    size = weights_bytes(manifest) + shared_bytes(manifest)
    return PROCESS_BYTES + int(size * (PREPACKED if manifest.get("prepacked") else factor))


def cache_bytes(decoder: Mapping[str, Any], tokens: int, rows: int = 1) -> int:
    """Return the size of the keys and values of so many tokens a row.

    Args:
        decoder: the manifest's entry.
        tokens: of a row.
        rows: of the batch.
    """
    width = decoder["kv_heads"] * decoder["head_size"] * 4
    return int(len(decoder["cache"]) * rows * tokens * width)


def check_load(
    folder: Path,
    manifest: Mapping[str, Any],
    tokens: int = 0,
    rows: int = 1,
) -> None:
    """Refuse to load a bundle that does not fit.

    Args:
        folder: the bundle's.
        manifest: its manifest.
        tokens: of the cache that will be needed; 0 for none.
        rows: of that cache.

    Raises:
        EdgeError: gives the figures.
    """
    session = session_bytes(manifest)
    decoder = manifest.get("decoder")
    cache = cache_bytes(decoder, tokens, rows) if decoder and tokens else 0
    if session + cache < SMALL:
        return
    free = available_bytes()
    if free is None or session + cache <= free:
        return
    kept = f" and {cache / GIB:.2f} for the cache of {rows} x {tokens} tokens" if cache else ""
    remedy = "a smaller --context" if cache and session <= free else "another --quantize"
    raise EdgeError(
        f"{folder}: found {free / GIB:.2f} GiB of free memory, expected {session / GIB:.2f} for "
        f"the weights{kept}; close other programs, or export it with {remedy}"
    )
