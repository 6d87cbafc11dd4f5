"""EDGE_LRA.md: what was put into an app, and how to call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_lra.embed.platforms import Platform

if TYPE_CHECKING:
    from edge_lra.embed.app import Embedded

PAGE = "EDGE_LRA.md"
BUILD = (
    "./build.sh --config MinSizeRel --parallel --skip_tests {host} --minimal_build "
    "--include_ops_by_config {config} --enable_reduced_operator_type_support"
)


def build_command(platform: Platform, config: str) -> str:
    """Return the command that builds a small onnxruntime, in a checkout of its release."""
    return BUILD.format(host=platform.build, config=config)


def write_page(found: Embedded, manifest: Mapping[str, Any]) -> str:
    """Return the page for what was embedded."""
    parts = [
        f"# {found.bundle.rpartition('/')[2]}",
        f"Written by `edge-lra embed`. The bundle: `{found.bundle}` ({_kind(manifest)}).",
        *_split(found),
        found.call.setup,
        f"```{found.call.language}\n{found.call.code.strip(chr(10))}\n```",
        *_small_build(found),
        "## What the app grows by",
        _sizes(found),
        "Figures of libraries are those of the packages named, measured once; your build may "
        "link another release.",
    ]
    return "\n\n".join(parts) + "\n"


def _kind(manifest: Mapping[str, Any]) -> str:
    names = ", ".join(f"`{name}`" for name in manifest["adapters"])
    return f"{manifest['task']}, {'adapters ' + names if names else manifest['mode']}"


def _split(found: Embedded) -> list[str]:
    if found.adapters is None:
        return []
    return [
        f"It is split: `{found.bundle}` is the base, `{found.adapters}` holds the manifest, the "
        "adapters and the golden vectors. Lay the second over the first, in one folder of the "
        "app's data, and open that. To update adapters over the air, embed again, publish the "
        "second folder, and lay it over the base in the same way: opening it proves by the hashes "
        "that both belong together."
    ]


def _small_build(found: Embedded) -> list[str]:
    if found.converted is None:
        return []
    return [
        "## A small onnxruntime",
        f"`model.ort` needs {found.converted.operators} of onnxruntime's "
        f"{found.converted.known} operators; `{found.config}` lists them with their types. In a "
        "checkout of onnxruntime's release:",
        f"    {found.build}",
    ]


def _sizes(found: Embedded) -> str:
    rows = ["| Part | Host | Bytes | Compressed | What | Source |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {size.part} | {size.host or ''} | {size.bytes} | {size.compressed_bytes or ''} "
        f"| {size.what} | {size.source} |"
        for size in found.sizes
    ]
    return "\n".join(rows)
