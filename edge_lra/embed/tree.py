"""Write many files into a folder that is not ours: all of them, or none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edge_lra.bundle import is_running
from edge_lra.errors import EdgeError

Content = Path | bytes  # a file to copy, or what to write
SCRATCH = ".edge-lra-embed-"


def digest_of(content: Content) -> str:
    """Return the sha256 of what will be written, in hex."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def scratch(out: Path) -> Iterator[Path]:
    """Yield a folder inside the tree, on its disk; folders made for it go if the block fails.

    What killed runs left is cleared first.

    Raises:
        EdgeError: the disk refuses.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    folder = out / f"{SCRATCH}{os.getpid()}"
    try:
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            _clear(out)
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for made in missing:  # the deepest first; one with something in it stays
            with contextlib.suppress(OSError):
                made.rmdir()


def _clear(out: Path) -> None:
    """Delete the scratch folders of runs that are over."""
    for path in out.glob(f"{SCRATCH}*"):
        number = re.fullmatch(r"\d+", path.name.removeprefix(SCRATCH))
        if number and (int(number[0]) == os.getpid() or not is_running(int(number[0]))):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn what a disk refuses into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EdgeError(f"{out} cannot be written: {reason}; choose another --out") from error


def put(out: Path, files: Mapping[str, Content], stale: Sequence[str], folder: Path) -> None:
    """Write files into a tree and delete others; undone if anything fails.

    Everything is written to the scratch folder first, so that a full disk is met before the tree
    changes; then each file is moved to its place. Killed in between, every file is the old or the
    new one, and the next run goes on from there.

    Args:
        out: the tree.
        files: what to write, by path in it, in the order to write.
        stale: paths to delete.
        folder: a scratch folder on the same disk.
    """
    fresh, aside = folder / "fresh", folder / "aside"
    for name, content in files.items():
        _stage(fresh / name, content)
    with contextlib.ExitStack() as undo:
        for name in files:
            _make_folder((out / name).parent, undo)
            if os.path.lexists(out / name):
                _keep(out / name, aside / name)
                undo.callback(os.replace, aside / name, out / name)
            else:
                undo.callback((out / name).unlink, missing_ok=True)
            (fresh / name).replace(out / name)
        for name in stale:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).replace(aside / name)
            undo.callback(os.replace, aside / name, out / name)
        undo.pop_all()
    for name in stale:
        _remove_empty((out / name).parent, out)


def _make_folder(folder: Path, undo: contextlib.ExitStack) -> None:
    for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        missing.mkdir()
        undo.callback(missing.rmdir)


def _keep(file: Path, aside: Path) -> None:
    """Give a file a second name, or a copy where the disk knows no links."""
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, aside)
    except OSError:
        shutil.copy2(file, aside)


def _stage(target: Path, content: Content) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
    else:
        shutil.copyfile(content, target)


def _remove_empty(folder: Path, out: Path) -> None:
    """Remove folders that have nothing in them any more, up to the tree's own."""
    with contextlib.suppress(OSError):
        while folder != out:
            folder.rmdir()
            folder = folder.parent
