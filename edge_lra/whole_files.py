"""Files that are whole or absent."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edge_lra.errors import EdgeError


def check_target(path: Path) -> None:
    """Refuse a place that cannot hold a file, before anything is measured for it.

    Raises:
        EdgeError: a folder, no folder around it, a device, or a place that takes no files.
    """
    target = path.resolve()
    if target.is_dir():
        raise EdgeError(f"{path}: found a folder, expected a file; give a file's name inside it")
    if target.exists() and not target.is_file():
        raise EdgeError(f"{path}: found a device, expected an ordinary file; give another name")
    if not target.parent.is_dir():
        raise EdgeError(f"{path}: found no folder {path.parent}, expected one; create it")
    trial = _beside(target)
    try:
        trial.touch()
    except OSError as error:
        raise EdgeError(
            f"{path}: found {error.strerror}, expected a place for a file; choose another"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and move it in: a reader finds the old or the new one.

    A link is followed, so that the file it points to is the one that changes.
    """
    target = path.resolve()
    fresh = _beside(target)
    try:
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, target)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()


def _beside(target: Path) -> Path:
    """Return a name no longer than a file system allows, however long the target's is."""
    return target.with_name(f".edge-lra-{os.getpid()}.tmp")
