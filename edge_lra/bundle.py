"""The bundle folder: read its manifest, check its files, write it whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


def sha256_file(path: Path) -> str:
    """Return a file's sha256 in hex, read in chunks."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def load_manifest(path: Path) -> dict[str, Any]:
    """Return a bundle's manifest.

    Raises:
        EdgeError: the folder is no bundle, or of a format this version does not know.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise EdgeError(f"{path}: found no {MANIFEST}, expected a bundle; export one") from None
    except ValueError:
        raise EdgeError(f"{file}: found a corrupt file, expected JSON; export again") from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise EdgeError(f"{file}: found format_version {version!r}, expected {FORMAT_VERSION}")
    return dict(manifest)


def check_files(path: Path, manifest: dict[str, Any]) -> None:
    """Compare every file's size and sha256 with the manifest.

    Raises:
        EdgeError: a file is missing or damaged; the message names it.
    """
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise EdgeError(f"{file}: found no such file, expected it in the bundle; export again")
        if file.stat().st_size != entry["size"] or sha256_file(file) != entry["sha256"]:
            raise EdgeError(f"{file}: found other bytes than were exported; the bundle is damaged")


def describe_files(path: Path) -> dict[str, dict[str, Any]]:
    """Return size and sha256 of every file below a folder but the manifest, by relative name."""
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.name != MANIFEST)
    return {
        f.relative_to(path).as_posix(): {"size": f.stat().st_size, "sha256": sha256_file(f)}
        for f in files
    }


@contextlib.contextmanager
def staged(out: Path, force: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `out` that takes its place if the block succeeds.

    Leftovers of killed runs are cleared first, and a swap they interrupted is undone.

    Raises:
        EdgeError: `out` is there and is no bundle (without `force`), or cannot be written.
    """
    aside, fresh = (out.with_name(f".{out.name}.{kind}") for kind in ("old", "tmp"))
    if aside.exists() and not out.exists():
        aside.rename(out)
    if out.exists() and not force and not (out / MANIFEST).is_file():
        raise EdgeError(f"{out}: found something that is no bundle; choose --out or use --force")
    try:
        for leftover in (aside, fresh):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        if out.exists():
            out.rename(aside)
        os.replace(fresh, out)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise EdgeError(f"{out}: found {error.strerror}, expected a writable folder") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
