"""What an app grows by: the bundle's files, the runner, and onnxruntime on each host."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

MODEL = ("model.onnx", "model.onnx.data", "model.ort")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
HERE = "this bundle"


@dataclass(frozen=True)
class Size:
    """One part of what an app ships.

    Attributes:
        part: model, adapters, tokenizer, other, runner or onnxruntime.
        host: where it is shipped; None for all. A runner that is the same on several has none.
        bytes: of its files.
        compressed_bytes: deflated, as a store's package has them; None where that was not measured.
        what: what was measured, with its version.
        source: where that is from.
    """

    part: str
    host: str | None
    bytes: int
    compressed_bytes: int | None
    what: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def bundle_sizes(manifest: Mapping[str, Any], manifest_bytes: int) -> list[Size]:
    """Return the sizes of a bundle's files, by what they are for."""
    adapters = {entry["file"] for entry in manifest["adapters"].values()}
    sizes = {name: entry["size"] for name, entry in manifest["files"].items()}
    sizes["manifest.json"] = manifest_bytes
    parts = {
        "model": [name for name in MODEL if name in sizes],
        "adapters": sorted(adapters & sizes.keys()),
        "tokenizer": [name for name in TOKENIZER if name in sizes],
    }
    named = {name for names in parts.values() for name in names}
    parts["other"] = sorted(sizes.keys() - named)
    return [
        Size(part, None, sum(sizes[n] for n in names), None, _listed(part, names), HERE)
        for part, names in parts.items()
        if names
    ]


def _listed(part: str, names: list[str]) -> str:
    if part == "adapters" and len(names) > 1:
        return f"{len(names)} files"
    return ", ".join(names)


def library_sizes(platform: str) -> list[Size]:
    """Return the measured sizes of a platform's runner and of its onnxruntime, by host."""
    kinds = {"runner": "runner", "library": "onnxruntime"}
    return [
        Size(
            part,
            entry.get("host"),
            entry["bytes"],
            entry["compressed_bytes"],
            entry["what"],
            entry["source"],
        )
        for kind, part in kinds.items()
        for entry in measured().get(kind, ())
        if platform in entry["platforms"]
    ]


@cache
def measured() -> dict[str, Any]:
    """Return the entries of sizes.toml."""
    text = files("edge_lra.embed").joinpath("sizes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def totals(sizes: Iterable[Size]) -> dict[str, int]:
    """Return the bytes an app grows by on each host whose onnxruntime was measured."""
    listed = list(sizes)
    hosts = [size.host for size in listed if size.part == "onnxruntime" and size.host]
    return {host: sum(size.bytes for size in listed if size.host in (None, host)) for host in hosts}
