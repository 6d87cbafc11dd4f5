"""Write an adapter in another format, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_lra.adapters.formats import read_any, writers
from edge_lra.adapters.formats.build import DOWN, DOWN_ROWS
from edge_lra.adapters.formats.format import Base, Writer
from edge_lra.adapters.names import method_of, sort_tensors
from edge_lra.adapters.saved import Saved
from edge_lra.adapters.write import adapter_folder
from edge_lra.errors import EdgeError

DOWNS = (DOWN, DOWN_ROWS, "adapter_down.weight")


@dataclass(frozen=True)
class Converted:
    """What was done.

    Attributes:
        found: title of the format that was read.
        format: title of the one that was written.
        bytes: size of what was written.
        ranks: by module, as it was read.
    """

    found: str
    format: str
    bytes: int
    ranks: dict[str, int]


def convert(
    path: Path, to: str, out: Path, base: Base | None = None, force: bool = False
) -> Converted:
    """Read an adapter in whichever format it is and write it in another.

    Args:
        path: its folder or file.
        to: a name in `formats.writers()`.
        out: where to; a file where the format is one.
        base: the model it is for.
        force: replace what is there.

    Raises:
        EdgeError: it cannot be read, the format cannot say it, or `out` is there.
    """
    writer = writers()[to]
    saved = read_any(path, base)
    ranks = site_ranks(saved)
    sources = [saved.path, *([base.path] if base else [])]
    place = adapter_file(out, writer, force, saved.path) if writer.suffix else None
    with place or adapter_folder(out, force, sources) as folder:
        writer.write(folder, saved, base)
    files = [out] if out.is_file() else [file for file in out.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return Converted(saved.format, writer.title, size, ranks)


def site_ranks(saved: Saved) -> dict[str, int]:
    """Return the rank of each site by module."""
    method = method_of(saved.config, str(saved.config_file))
    tensors = sort_tensors(saved.file, saved.tensors, method)
    ranks = {}
    for module, parts in tensors.sites.items():
        matrices = [values.shape for values in parts.values() if values.ndim > 1]
        # Of kinds that do not have one of these, the smaller side of the smallest.
        first = next((parts[name].shape[:1] for name in DOWNS if name in parts), None)
        ranks[module] = min(first or min(matrices, default=(1,)))
    return ranks


@contextmanager
def adapter_file(out: Path, writer: Writer, force: bool, source: Path) -> Iterator[Path]:
    """Yield a temporary folder whose one file becomes `out` if the block succeeds.

    Raises:
        EdgeError: `out` has another suffix, is there (without `force`), or is what is read.
    """
    suffix = writer.suffix or ""
    if out.suffix != suffix:
        raise EdgeError(
            f"--out {out}: found another ending, expected {suffix}; {writer.title} is one file"
        )
    if out.is_dir() or os.path.realpath(out) == os.path.realpath(source):
        found = "a folder" if out.is_dir() else "the adapter that is read"
        raise EdgeError(f"{out}: found {found}, expected a place for a file; choose another --out")
    if out.exists() and not force:
        raise EdgeError(f"{out}: found it there, expected a new file; use --force to replace it")
    missing = [folder for folder in out.absolute().parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}.tmp-", dir=out.parent) as name:
            yield Path(name)
            (written,) = Path(name).iterdir()
            written.replace(out)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EdgeError(f"{out} cannot be written: {reason}; choose another --out") from error
    finally:
        if not out.exists():
            for folder in missing:  # the deepest first; what others put there stays
                with suppress(OSError):
                    folder.rmdir()
