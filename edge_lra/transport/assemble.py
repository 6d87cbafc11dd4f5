"""Fetch and unpack what a set-up of the emulator consists of, and try it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_lra.bundle import sha256_file
from edge_lra.errors import EdgeError
from edge_lra.transport import apt
from edge_lra.transport.apt import OTHER_WAY, Apt, Package
from edge_lra.transport.mirrors import Source, backports, machine_sources
from edge_lra.transport.sysroot import EMULATOR, FORMAT, RECORD, Progress, Sysroot
from edge_lra.transport.wheels import fetch_wheels

# qemu 7.2 crashes while it loads onnxruntime; 10.0.2 runs it.
OLDEST_QEMU = 10
NO_SUITE = "does not have a Release file"  # in apt's words
# onnxruntime is C++; numpy's wheel brings its own libraries.
DEBIAN = ("python3", "libstdc++6")


def make(work: Path, place: Path, wanted: Mapping[str, str], progress: Progress) -> None:
    """Fetch and unpack into the working folder, try it, and move it to its place."""
    root = Apt(work / "apt", "arm64")
    sources = machine_sources()
    emulator = _fetch_emulator(root, sources, progress)
    packages = root.fetch(DEBIAN, progress)
    python, glibc = _python_and_glibc(packages)
    wheels = fetch_wheels(work / "wheels", wanted, python, glibc, progress)
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
        "packages": [_entry(p.name, p.version, p.sha256, p.file) for p in (emulator, *packages)],
        "wheels": [
            _entry(f.name.split("-")[0], f.name.split("-")[1], sha256_file(f), f) for f in wheels
        ],
    }
    (made / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if place.exists():
        place.rename(work / "old")  # in one step: half removed, it would still look finished
    made.rename(place)
    shutil.rmtree(work)


def _entry(name: str, number: str, sha256: str, file: Path) -> dict[str, Any]:
    return {"name": name, "version": number, "bytes": file.stat().st_size, "sha256": sha256}


def _fetch_emulator(root: Apt, sources: Sequence[Source], progress: Progress) -> Package:
    """Fetch qemu-user: of the backports, whose index is small, else of the release itself.

    Raises:
        EdgeError: none is new enough.
    """
    host = apt.host_architecture()
    arm = [replace(source, architectures=("arm64",)) for source in sources]
    both = [replace(source, architectures=("arm64", host)) for source in sources]
    later = [replace(source, architectures=(host,)) for source in backports(sources)]
    found = None
    for choice in ([*arm, *later], both):
        try:
            root.update([source.stanza() for source in choice], progress)
        except EdgeError as error:
            if NO_SUITE not in str(error):
                raise
            continue  # a release under development has no backports
        found = root.candidate(f"qemu-user:{host}")
        if found and int(re.sub(r"^\d+:", "", found).split(".")[0]) >= OLDEST_QEMU:
            return root.fetch_alone(f"qemu-user:{host}={found}", progress)
    raise EdgeError(
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
    for name in ("bin", "lib", "sbin"):  # Debian 13 has links there, made when it is installed
        if not (made / "root" / name).exists():
            (made / "root" / name).symlink_to(f"usr/{name}")
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
