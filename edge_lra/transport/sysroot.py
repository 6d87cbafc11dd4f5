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
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_lra.bundle import sha256_file
from edge_lra.errors import EdgeError
from edge_lra.transport import apt
from edge_lra.transport.apt import OTHER_WAY, Apt, Package, Progress

FOLDER = "EDGE_LRA_ARM64"  # the environment variable that names another folder
SET_UP = "edge-lra devices --setup arm64"
RECORD = "sysroot.json"
FORMAT = 1
# qemu 7.2 and 8.2 crash while they load onnxruntime; 10.0.2 runs it.
OLDEST_QEMU = 10
EMULATOR = "qemu-aarch64"
# onnxruntime is C++; numpy's wheel brings its own libraries.
DEBIAN = ("python3", "libstdc++6")
WHEELS = ("onnxruntime", "numpy", "safetensors")
OLDEST_GLIBC = 17  # of manylinux2014
NEEDED_BYTES = 450 * 2**20  # while it is made; 210 MB stay
ARM = ("aarch64", "arm64")


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
    wanted = {name: version(name) for name in WHEELS}
    if _is_current(place, wanted):
        return place
    apt.require_apt()
    with _full_disk(place):
        work = place.with_name(f".{place.name}.part")
        work.mkdir(parents=True, exist_ok=True)
        with _locked(work):
            if not _is_current(place, wanted):  # another process may have made it meanwhile
                _make(work, place, wanted, progress or _silent)
    return place


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
            f"{error.filename or folder}: cannot be written: {error.strerror}; name another "
            f"folder in {FOLDER}"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process works in a folder."""
    import fcntl  # not on Windows, which has no apt either

    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(work: Path, place: Path, wanted: Mapping[str, str], progress: Progress) -> None:
    """Fetch and unpack into the working folder, try it, and move it to its place."""
    root = Apt(work / "apt", "arm64")
    sources = apt.machine_sources()
    emulator = _fetch_emulator(root, sources, progress)
    packages = root.fetch(DEBIAN, progress)
    python, glibc = _python_and_glibc(packages)
    wheels = _fetch_wheels(work / "wheels", wanted, python, glibc, progress)
    made = work / "made"
    shutil.rmtree(made, ignore_errors=True)
    _unpack(made, emulator, packages, wheels, progress)
    found = _try(made, python, progress)
    record = {
        "format": FORMAT,
        "emulator": found.pop("emulator"),
        "python": python,
        "wanted": dict(wanted),
        "versions": found,
        "packages": [_entry(p.file, p.name, p.version) for p in (emulator, *packages)],
        "wheels": [_entry(file, *file.name.split("-")[:2]) for file in wheels],
    }
    (made / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if place.exists():
        shutil.rmtree(place)
    made.rename(place)
    shutil.rmtree(work)


def _entry(file: Path, name: str, number: str) -> dict[str, Any]:
    size = file.stat().st_size
    return {"name": name, "version": number, "bytes": size, "sha256": sha256_file(file)}


def _fetch_emulator(root: Apt, sources: Sequence[apt.Source], progress: Progress) -> Package:
    """Fetch qemu-user: of the backports, whose index is small, else of the release itself.

    Raises:
        EdgeError: none is new enough.
    """
    host = apt.host_architecture()
    arm = [replace(source, architectures=("arm64",)) for source in sources]
    both = [replace(source, architectures=("arm64", host)) for source in sources]
    later = [replace(source, architectures=(host,)) for source in apt.backports(sources)]
    found, reason = None, None
    for choice in ([*arm, *later], both):
        try:
            root.update(choice, progress)
        except EdgeError as error:
            reason = error  # a release under development has no backports
            continue
        reason, found = None, root.candidate(f"qemu-user:{host}")
        if found and int(re.sub(r"^\d+:", "", found).split(".")[0]) >= OLDEST_QEMU:
            return root.fetch_alone(f"qemu-user:{host}={found}", progress)
    raise reason or EdgeError(
        f"emulator: found qemu-user {found or 'nowhere'} in this distribution, expected "
        f"{OLDEST_QEMU} or newer as in Debian 12's backports and Debian 13; set it up there, "
        f"{OTHER_WAY}"
    )


def _python_and_glibc(packages: Sequence[Package]) -> tuple[str, int]:
    """Return the version of python3, such as 3.11, and the minor one of glibc 2."""
    versions = {package.name: package.version for package in packages}
    python = re.match(r"3\.\d+", versions["python3"])
    glibc = re.match(r"2\.(\d+)", versions["libc6"])
    assert python and glibc, versions
    return python[0], int(glibc[1])


def _fetch_wheels(
    folder: Path, wanted: Mapping[str, str], python: str, glibc: int, progress: Progress
) -> list[Path]:
    """Download aarch64 wheels with pip, of this environment's versions where they exist.

    A package may have no wheel of that version for Debian's Python: then pip chooses the newest.
    """
    shutil.rmtree(folder, ignore_errors=True)
    platforms = [f"manylinux_2_{n}_aarch64" for n in range(glibc, OLDEST_GLIBC - 1, -1)]
    options = ["--only-binary=:all:", "--no-deps", "--implementation=cp", "--dest", str(folder)]
    options += [f"--python-version={python}", *(f"--platform={name}" for name in platforms)]
    for place, (name, number) in enumerate(wanted.items()):
        progress("wheels", place, len(wanted))
        try:
            _pip(["download", *options, f"{name}=={number}"])
        except EdgeError as error:
            if "No matching distribution" not in str(error):
                raise
            _pip(["download", *options, name])
    progress("wheels", len(wanted), len(wanted))
    return sorted(folder.glob("*.whl"))


def _pip(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        raise EdgeError("emulator: found no pip in this Python; run python -m ensurepip")
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise EdgeError(f"emulator: pip failed: {apt.explain((errors or [done.stderr])[-1])}")


def _unpack(
    made: Path, emulator: Package, packages: Sequence[Package], wheels: Sequence[Path],
    progress: Progress,
) -> None:  # fmt: skip
    total = len(packages) + len(wheels) + 1
    for place, package in enumerate((emulator, *packages)):
        progress("unpack", place, total)
        target = made / ("emulator" if package is emulator else "root")
        target.mkdir(parents=True, exist_ok=True)
        apt.unpack(package, target)
    (made / "emulator" / "usr" / "bin" / EMULATOR).rename(made / EMULATOR)
    shutil.rmtree(made / "emulator")  # emulators of 30 other processors
    for place, wheel in enumerate(wheels):
        progress("unpack", len(packages) + 1 + place, total)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(made / "site")
    progress("unpack", total, total)


TRIAL = """
import json, numpy, onnxruntime, safetensors
versions = {m.__name__: m.__version__ for m in (onnxruntime, numpy, safetensors)}
print(json.dumps(versions))
"""


def _try(made: Path, python: str, progress: Progress) -> dict[str, str]:
    """Load the wheels in the emulator; return its version and theirs.

    It also leaves their compiled modules there: the first start takes twice as long as others.
    """
    progress("first start", 0, 1)
    sysroot = Sysroot(made, python, "", {})
    told = subprocess.run(
        [made / EMULATOR, "--version"], capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        [*sysroot.command("max"), "-c", TRIAL],
        env=sysroot.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EdgeError(f"emulator: its Python failed: {apt.explain(done.stderr)}")
    progress("first start", 1, 1)
    versions: dict[str, str] = json.loads(done.stdout)
    return {"emulator": told.stdout.splitlines()[0].replace(" version", ""), **versions}
