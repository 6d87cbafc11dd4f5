"""What bundles say before they run: what there is, what to run by default, and what fits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from edge_lra.agent.adapter import known_adapters, pick_adapter
from edge_lra.bundle import check_files, load_manifest
from edge_lra.errors import EdgeError
from edge_lra.profile.latencies import Shape
from edge_lra.profile.measurement import Measurement
from edge_lra.profile.result import Entry
from edge_lra.runner.external import GRAPH

TOKENS = 128


def describe_bundle(
    path: Path,
    adapter: str | None,
    device: str,
    device_title: str,
    measured: Measurement | None = None,
) -> Entry:
    """Return a bundle's entry for a device, with what its manifest and its files say."""
    manifest = load_manifest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return Entry(
        bundle=str(path),
        adapter=pick_adapter(manifest, adapter),
        mode=str(manifest["mode"]),
        scheme=str(manifest["scheme"]),
        file_bytes={file.relative_to(path).as_posix(): file.stat().st_size for file in files},
        device=device,
        device_title=device_title,
        measured=measured,
    )


def generates(bundle: Path) -> bool:
    """Say whether a bundle is a language model: it has a cache, and gives tokens."""
    return bool(load_manifest(bundle).get("decoder"))


def default_shapes(bundles: Sequence[Path]) -> tuple[Shape, ...]:
    """Return one text of 128 tokens, or of as many as fit every bundle."""
    return ((1, min(TOKENS, *map(_longest, bundles))),)


def default_contexts(bundles: Sequence[Path]) -> tuple[int, ...]:
    """Return 128 tokens, or as many as fit every bundle; none unless all generate."""
    if not all(map(generates, bundles)):
        return ()
    return (max(1, min(TOKENS, *(_longest(bundle) - 1 for bundle in bundles))),)


def _longest(path: Path) -> int:
    return int(load_manifest(path).get("max_length") or sys.maxsize)


def check_adapter(bundles: Sequence[Path], adapter: str | None) -> None:
    """Check that every factored bundle has the adapter, and that one of them is factored.

    Raises:
        EdgeError: they do not.
    """
    manifests = [load_manifest(path) for path in bundles]
    if adapter is not None and not any(map(known_adapters, manifests)):
        modes = " and ".join(dict.fromkeys(str(manifest["mode"]) for manifest in manifests))
        raise EdgeError(
            f"adapter: found {adapter!r} for {bundles[0]}, expected a factored bundle; this one is "
            f"{modes}, leave it out"
        )
    for manifest in manifests:
        pick_adapter(manifest, adapter)


def check_bundle(path: Path, shapes: Sequence[Shape], contexts: Sequence[int] = ()) -> None:
    """Check a bundle's files, and that the shapes and contexts fit it.

    Raises:
        EdgeError: they do not.
    """
    manifest = load_manifest(path)
    if GRAPH not in manifest["files"]:
        raise EdgeError(
            f"{path}: found no {GRAPH}, expected the graph to read operators and layers from; "
            "profile the bundle that it was converted from"
        )
    check_files(path, manifest, "once")
    longest = _longest(path)
    for batch, tokens in shapes:
        if batch < 1 or not 1 <= tokens <= longest:
            raise EdgeError(
                f"shape: found {batch}x{tokens}, expected at least 1 text of 1 to {longest} tokens"
            )
    if contexts and not generates(path):
        raise EdgeError(
            f"context: found {contexts[0]} for {path}, whose task is {manifest['task']}, expected "
            "a bundle that generates text; leave it out"
        )
    for context in contexts:
        if not 1 <= context < longest:
            raise EdgeError(
                f"context: found {context}, expected 1 to {longest - 1} tokens, which leaves room "
                "for the next"
            )
