"""An arm64 Python to emulate: qemu-user, Debian's packages and the real aarch64 wheels.

Set up once with a network, in about a minute and 120 MB, then used without one. In the folder:

    qemu-aarch64     from Debian, static
    root/            Debian's python3 for arm64 and all that it depends on, unpacked
    site/            onnxruntime, numpy and safetensors for aarch64
    sysroot.json     versions and sha256 of every file that was fetched; written last
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.transport.process import NO_TELEMETRY

FOLDER = "EDGE_LRA_ARM64"  # the environment variable that names another folder
SET_UP = "edge-lra devices --setup arm64"
RECORD = "sysroot.json"
FORMAT = 1
EMULATOR = "qemu-aarch64"
WHEELS = ("onnxruntime", "numpy", "safetensors")  # what the agent imports
NEEDED_BYTES = 450 * 2**20  # while it is made; 210 MB stay
ARM = ("aarch64", "arm64")
Progress = Callable[[str, int, int], None]  # stage, bytes or files so far, and in all


@dataclass(frozen=True)
class Sysroot:
    """A finished set-up.

    Attributes:
        python: its version, such as 3.11.
        emulator: the emulator's name and version.
        versions: of the wheels, by name.
    """

    folder: Path
    python: str
    emulator: str
    versions: Mapping[str, str]

    def command(self, cpu: str, *options: str) -> list[str]:
        """Return what starts its Python on a core that the emulator knows."""
        python = self.folder / "root" / "usr" / "bin" / f"python{self.python}"
        emulator = str(self.folder / EMULATOR)
        return [emulator, "-L", str(self.folder / "root"), "-cpu", cpu, *options, str(python)]

    def environment(self, *modules: Path) -> dict[str, str]:
        """Return its environment; this machine's is for other libraries of another processor.

        Args:
            modules: further folders that Python imports from.
        """
        kept = ("HOME", "PATH", "TMPDIR", "XDG_CACHE_HOME")
        path = os.pathsep.join(map(str, (self.folder / "site", *modules)))
        return {name: os.environ[name] for name in kept if name in os.environ} | {
            "LANG": "C.UTF-8",
            "PYTHONPATH": path,
            "PYTHONNOUSERSITE": "1",
            **NO_TELEMETRY,
        }


def default_folder() -> Path:
    """Return where it is set up: EDGE_LRA_ARM64, or the user's cache."""
    if given := os.environ.get(FOLDER):
        return Path(given).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "edge-lra" / "arm64"


def find_sysroot(folder: Path | None = None) -> Sysroot:
    """Return what was set up.

    Raises:
        EdgeError: nothing was, or it was not finished.
    """
    require_foreign()
    place = folder or default_folder()
    record = _read_record(place)
    if record is None:
        raise EdgeError(
            f"emulator: found nothing set up in {place}, expected qemu and an arm64 Python; "
            f"run {SET_UP}"
        )
    return Sysroot(place, record["python"], record["emulator"], record["versions"])


def require_foreign() -> None:
    """Raise EdgeError where arm64 is this machine itself, or cannot be emulated."""
    if platform.machine().lower() in ARM:
        raise EdgeError(
            f"emulator: this machine is {platform.machine()}, where arm64 runs as it is; "
            "use --device host"
        )
    if sys.platform != "linux":
        raise EdgeError(
            f"emulator: found {platform.system()}, expected Linux, which alone has qemu-user; "
            "use a Linux machine, or profile on a device with --target ssh://user@host"
        )


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None


def set_up(progress: Progress | None = None, folder: Path | None = None) -> Path:
    """Make the emulator and its Python; return their folder at once if they are there.

    They are made anew when this environment's onnxruntime, numpy or safetensors has another
    version. What an interrupted set-up had fetched is used; it never counts as one.

    Args:
        progress: told of each stage, its bytes so far and in all.
        folder: where; None for `default_folder`.

    Raises:
        EdgeError: this system has no apt, nothing to emulate, no network, or a full disk.
    """
    require_foreign()
    place = folder or default_folder()
    wanted = {name: _version_here(name) for name in WHEELS}
    if _is_current(place, wanted):
        return place
    from edge_lra.transport.apt import require_apt
    from edge_lra.transport.assemble import make

    require_apt()
    with _full_disk(place):
        work = place.with_name(f".{place.name}.part")
        work.mkdir(parents=True, exist_ok=True)
        with _locked(work):
            if not _is_current(place, wanted):  # another process may have made it meanwhile
                make(work, place, wanted, progress or _silent)
    return place


def _version_here(name: str) -> str:
    """Return a package's version; onnxruntime has builds that are installed under other names."""
    try:
        return version(name)
    except PackageNotFoundError:
        return str(import_module(name).__version__)


def _is_current(folder: Path, wanted: Mapping[str, str]) -> bool:
    record = _read_record(folder)
    return record is not None and record["wanted"] == wanted


def _silent(stage: str, done: int, total: int) -> None:
    pass


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Say in one line that the disk refuses."""
    there = next(path for path in folder.parents if path.exists())
    free = shutil.disk_usage(there).free
    if free < NEEDED_BYTES:
        raise EdgeError(
            f"{folder}: found {free >> 20} MiB free, expected {NEEDED_BYTES >> 20}; free some "
            f"space, or name another folder in {FOLDER}"
        )
    try:
        yield
    except OSError as error:
        raise EdgeError(
            f"{error.filename or folder}: {error.strerror}; check it, or name another folder in "
            f"{FOLDER}"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process works in a folder."""
    import fcntl  # not on Windows, which has no apt either

    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
