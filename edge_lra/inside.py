"""Names of a bundle's files: each stays inside the bundle, on every system."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from edge_lra.errors import EdgeError

SHA256 = re.compile(r"[0-9a-f]{64}")
OUTSIDE = "\\:\0"  # Windows's separator, its drives and streams; what ends a name for a system
DEPTH = 64  # of brackets in JSON; parsers in other languages recurse


def check_names(manifest: Mapping[str, Any], file: Path) -> None:
    """Raise EdgeError unless every file a manifest names is a relative POSIX path inside.

    Args:
        manifest: its entries.
        file: where they were read, for the error.
    """
    for name, entry in manifest["files"].items():
        known = isinstance(entry, dict) and entry.keys() >= {"size", "sha256"}
        if not known or type(entry["size"]) is not int or not _is_digest(entry["sha256"]):
            raise EdgeError(f"{file}: found no size and sha256 of {name!r}, expected both")
    for name in named_files(manifest, file):
        if not stays_inside(name):
            raise EdgeError(f"{file}: found {name!r}, expected files inside the bundle")


def named_files(manifest: Mapping[str, Any], file: Path) -> Iterator[Any]:
    """Yield every name of a file that a runner reads because the manifest says so."""
    yield from manifest["files"]
    tokenizer = manifest.get("tokenizer")
    adapters = manifest.get("adapters") or {}
    entries = [*adapters.values()] if isinstance(adapters, dict) else [adapters]
    for entry in [*entries, *([tokenizer] if tokenizer else [])]:
        if not isinstance(entry, dict) or "file" not in entry:
            raise EdgeError(f"{file}: found {entry!r}, expected an object with a file's name")
        yield entry["file"]


def stays_inside(name: Any) -> bool:
    """Say whether a name is a relative POSIX path without a way out, on Windows too."""
    if not isinstance(name, str) or any(odd in name for odd in OUTSIDE):
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's entries, for `object_pairs_hook`; parsers differ on repeated names.

    Raises:
        ValueError: a name is there twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def check_links(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise EdgeError if a named file is reached by a symbolic link that leaves the folder.

    Only links are resolved: a look at a file takes 2 us, and a bundle may have a thousand.
    """
    linked: dict[PurePosixPath, bool] = {PurePosixPath(): False}

    def is_linked(path: PurePosixPath) -> bool:
        if path not in linked:
            linked[path] = is_linked(path.parent) or (folder / path).is_symlink()
        return linked[path]

    for name in named_files(manifest, folder):
        if is_linked(PurePosixPath(name)):
            target = (folder / name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise EdgeError(
                    f"{folder / name}: found a link to {target}, expected a file inside the "
                    "bundle; copy the file to its place"
                )


def is_too_deep(document: Any) -> bool:
    """Say whether a JSON document nests more than DEPTH arrays and objects."""
    level = [document]
    for _ in range(DEPTH + 1):
        nested = [one for one in level if isinstance(one, (dict, list))]
        if not nested:
            return False
        level = [
            inner for one in nested for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return True


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and SHA256.fullmatch(value) is not None
