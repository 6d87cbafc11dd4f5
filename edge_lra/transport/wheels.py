"""The real aarch64 wheels of what the agent imports, downloaded with pip, which checks hashes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_lra.errors import EdgeError
from edge_lra.transport.apt import explain
from edge_lra.transport.sysroot import Progress

OLDEST_GLIBC = 17  # of manylinux2014


def fetch_wheels(
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
        raise EdgeError(f"emulator: pip failed: {explain((errors or [done.stderr])[-1])}")
