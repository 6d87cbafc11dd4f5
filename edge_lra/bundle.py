"""The bundle folder: read its manifest, check its files, write it whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.inside import check_links, check_names, is_too_deep, unique

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
REQUIRED = frozenset({"format_version", "files", "base_fingerprint"})
VERIFY = ("once", "always", "never")
# A manifest begins with its own digest: of the file as it is, but with zeros in its 64 places.
SEAL = b'{\n "sha256": "'
UNSEALED = b"0" * 64
LARGEST = 16 << 20  # bytes of a manifest; a thousand adapters take 0.3 MiB


def sha256_file(path: Path) -> str:
    """Return a file's sha256 in hex, read in chunks."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def seal(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest's file: JSON whose first entry is the digest of all the rest."""
    document = {"sha256": UNSEALED.decode(), **{k: manifest[k] for k in manifest if k != "sha256"}}
    data = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
    return data.replace(UNSEALED, hashlib.sha256(data).hexdigest().encode(), 1)


def _is_sealed(data: bytes) -> bool:
    start, end = len(SEAL), len(SEAL) + len(UNSEALED)
    digest = hashlib.sha256(data[:start] + UNSEALED + data[end:]).hexdigest()
    return data.startswith(SEAL) and data[start:end] == digest.encode()


def load_manifest(path: Path) -> dict[str, Any]:
    """Return a bundle's manifest.

    Raises:
        EdgeError: the folder is no bundle, its manifest is damaged, or it is of a format this
            version does not know.
    """
    restore(path.absolute())
    file = path / MANIFEST
    data, manifest = _parse_manifest(path)
    found = manifest["format_version"]
    if type(found) is not int or found != FORMAT_VERSION:  # True is 1
        raise EdgeError(
            f"{file}: found bundle format {found}, expected {FORMAT_VERSION}; "
            "use the edge-lra that wrote it, or export again"
        )
    if not _is_sealed(data):
        raise EdgeError(f"{file}: is damaged, found other bytes than were exported; export again")
    check_names(manifest, file)
    check_links(path, manifest)
    return manifest


def _parse_manifest(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes and the entries of a manifest of any format, damaged or not."""
    file = path / MANIFEST
    try:
        data = _read_at_most(file, LARGEST)
        manifest = json.loads(data.decode(), object_pairs_hook=unique)
        if is_too_deep(manifest):
            raise RecursionError
    except (FileNotFoundError, NotADirectoryError):
        raise EdgeError(f"{path}: found no {MANIFEST}, expected a bundle; export one") from None
    except (ValueError, RecursionError):
        raise EdgeError(f"{file}: found a corrupt file, expected JSON; export again") from None
    known = isinstance(manifest, dict) and manifest.keys() >= REQUIRED
    if not known or not isinstance(manifest["files"], dict):
        raise EdgeError(f"{file}: found another kind of file, expected a bundle's manifest")
    return data, manifest


def _read_at_most(file: Path, size: int) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(size + 1)
    if len(data) > size:
        raise EdgeError(f"{file}: found more than {size} bytes, expected a bundle's manifest")
    return data


def check_files(path: Path, manifest: dict[str, Any], verify: str = "always") -> None:
    """Compare every file with the manifest.

    Args:
        path: the bundle folder.
        manifest: its manifest.
        verify: "always" hashes every file; "once" does so at the first load and afterwards
            compares size, time of change and inode with a stamp in the user's cache; "never"
            looks at nothing.

    Raises:
        EdgeError: a file is missing or damaged, or `verify` is unknown.
    """
    if verify not in VERIFY:
        raise EdgeError(f"verify: found {verify!r}, expected one of {', '.join(VERIFY)}")
    if verify == "never":
        return
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != entry["size"]:
            raise EdgeError(f"{file}: found it missing or cut, expected {entry['size']} bytes")
    stamp = _stamp(path, manifest)
    if verify == "once" and stamp.exists():
        return
    for name, entry in manifest["files"].items():
        if sha256_file(path / name) != entry["sha256"]:
            raise EdgeError(
                f"{path / name}: is damaged, found other bytes than were exported; export again"
            )
    with contextlib.suppress(OSError):  # a read-only home costs the next load a full check
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def _stamp(path: Path, manifest: dict[str, Any]) -> Path:
    """Return the cache file whose name is the identity of all files and their recorded hashes."""
    identity = [str(path.resolve())]
    for name, entry in manifest["files"].items():
        stat = (path / name).stat()
        identity.append(f"{name} {entry['sha256']} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "edge-lra" / "checked" / hashlib.sha256("\n".join(identity).encode()).hexdigest()


def describe_files(path: Path, known: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return size and sha256 of every file below a folder but the manifest, by relative name.

    Args:
        path: the folder.
        known: sha256 of files that were hashed while they were written.
    """
    known, found = known or {}, {}
    for file in sorted(f for f in path.rglob("*") if f.is_file() and f.name != MANIFEST):
        name = file.relative_to(path).as_posix()
        digest = known.get(name) or sha256_file(file)
        found[name] = {"size": file.stat().st_size, "sha256": digest}
    return found


@contextlib.contextmanager
def staged(out: Path, force: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `out` that takes its place if the block succeeds.

    The old folder goes aside, the new one in, the old one is deleted. What killed runs left is
    cleared first, and a swap they interrupted is undone.

    Raises:
        EdgeError: `out` is there and is no bundle (without `force`), or the disk refuses.
    """
    out = out.absolute()
    restore(out)
    _check_target(out, force)
    fresh, aside = (out.with_name(f".{out.name}.{kind}-{os.getpid()}") for kind in ("tmp", "old"))
    missing = [folder for folder in out.parents if not folder.exists()]
    try:
        with _disk_errors(out, anything=True):
            fresh.mkdir(parents=True)
        with _disk_errors(out):
            yield fresh
        with _disk_errors(out, anything=True):
            if out.exists():
                out.rename(aside)
            fresh.rename(out)
    finally:
        if aside.exists() and not out.exists():
            aside.rename(out)
        for path in (fresh, aside):
            _remove(path)
        if not out.exists():
            for folder in missing:  # the deepest first; what others put there stays
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _remove(path: Path) -> None:
    """Delete a folder, or the file or link that --force put aside; a link's target stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def restore(out: Path) -> None:
    """Undo a swap that a killed run left half done, and clear its folders."""
    pattern = re.compile(rf"\.{re.escape(out.name)}\.(tmp|old)-(\d+)")
    if not out.parent.is_dir():
        return
    for path in sorted(out.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None or (int(match[2]) != os.getpid() and is_running(int(match[2]))):
            continue
        if match[1] == "old" and not out.exists():
            path.rename(out)
        else:
            _remove(path)


def is_running(pid: int) -> bool:
    """Say whether there is such a process; on Windows always, where asking would end it."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _check_target(out: Path, force: bool) -> None:
    if any(out == folder or out in folder.parents for folder in (Path.cwd(), Path.home())):
        raise EdgeError(f"{out}: found the current or home folder or one above; choose another")
    if force or not out.exists():
        return
    try:
        _parse_manifest(out)  # a damaged bundle is one, and to be replaced
    except EdgeError:
        raise EdgeError(
            f"{out}: found something that is not a bundle; choose another --out, or --force"
        ) from None


@contextlib.contextmanager
def _disk_errors(out: Path, anything: bool = False) -> Iterator[None]:
    """Turn a full or read-only disk into one line; `anything` turns every OSError."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
    try:
        yield
    except EdgeError:
        raise
    except Exception as error:  # libraries wrap a full disk in errors of their own
        number = getattr(error, "errno", None)
        known = number in full or "No space left on device" in str(error)
        if known or (anything and isinstance(error, OSError)):
            reason = getattr(error, "strerror", None) or "No space left on device"
            raise EdgeError(f"{out} cannot be written: {reason}; choose another --out") from error
        raise
