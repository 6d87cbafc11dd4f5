"""`edge-lra inspect`: what a bundle, an adapter or a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_lra.cli.common import shared_options, write_json
from edge_lra.errors import EdgeError

BUNDLE_KEYS = ("name", "family", "task", "labels", "mode", "scheme", "max_length", "hosts")
ADAPTER_KEYS = ("peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@shared_options
def inspect(path: Path, json_to: str | None) -> None:
    """Say what PATH holds: a bundle, an adapter or a checkpoint."""
    found = describe(path)
    if write_json({"schema_version": 1, "path": str(path), **found}, json_to):
        from rich.console import Console
        from rich.table import Table

        table = Table(show_header=False, box=None)
        for key, value in found.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            table.add_row(key, shown)
        Console(markup=False).print(table)


def describe(path: Path) -> dict[str, Any]:
    """Return what a folder holds, by the file that marks its kind.

    Raises:
        EdgeError: it is none of the three.
    """
    kinds = {
        "manifest.json": describe_bundle,
        "adapter_config.json": describe_adapter,
        "config.json": describe_checkpoint,
    }
    for marker, read in kinds.items():
        if (path / marker).is_file():
            return read(path)
    if not path.is_dir():
        raise EdgeError(f"{path}: found no such folder, expected a bundle or a model")
    raise EdgeError(f"{path}: found none of {', '.join(kinds)}; expected a bundle or a model")


def describe_bundle(path: Path) -> dict[str, Any]:
    """Return the manifest's main entries and every file's size."""
    from edge_lra.bundle import load_manifest

    manifest = load_manifest(path)
    return {
        "kind": "bundle",
        **{key: manifest[key] for key in BUNDLE_KEYS},
        "inputs": [f"{i['name']} {i['dtype']}{i['shape']}" for i in manifest["inputs"]],
        "outputs": [f"{o['name']} {o['dtype']}{o['shape']}" for o in manifest["outputs"]],
        "adapters": [f"{n} rank {a['rank']}" for n, a in manifest["adapters"].items()],
        "files": [f"{n} {f['size'] / 2**20:.2f} MiB" for n, f in manifest["files"].items()],
        "verified": manifest["fidelity"] is not None,
    }


def describe_adapter(path: Path) -> dict[str, Any]:
    """Return the adapter's settings and the tensors of its file."""
    from edge_lra.checkpoint import read_config, read_header

    config = read_config(path / "adapter_config.json")
    file = path / "adapter_model.safetensors"
    tensors = read_header(file)[0] if file.is_file() else {}
    return {
        "kind": "adapter",
        **{key: config.get(key) for key in ADAPTER_KEYS},
        "target_modules": config.get("target_modules"),
        "tensors": [f"{t.name} {t.dtype}{list(t.shape)}" for t in tensors.values()],
    }


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Return the checkpoint's family and how many values it holds; no data is read."""
    import math

    from edge_lra.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(path)
    return {
        "kind": "checkpoint",
        "family": checkpoint.config.get("model_type"),
        "architectures": checkpoint.config.get("architectures") or [],
        "tensors": len(checkpoint.tensors),
        "parameters": sum(math.prod(info.shape) for info in checkpoint.tensors.values()),
        "dtypes": sorted({info.dtype for info in checkpoint.tensors.values()}),
    }
