"""Run and open a bundle again and again, and hold what stays resident.

python -m tests.runtime.cpp.soaking RUNS OPENINGS
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.runtime.cpp.apps import build_app
from tests.runtime.cpp.bundles import write_tiny
from tests.runtime.cpp.places import library_of, run_program

# Over nine tenths of the runs. A leak of one output (160 bytes) a run is 14 MiB of 100,000.
RUNS_KIB = 512
OPENING_KIB = 2.0  # an opening; a leak of the session alone is 300


class Growth(NamedTuple):
    """Resident KiB after a tenth, and after all."""

    runs: tuple[int, int]
    openings: tuple[int, int]


def soak(program: Path, bundle: Path, runs: int, openings: int) -> Growth:
    """Return what stays resident."""
    done = run_program(program, bundle, library_of(), runs, openings, timeout_s=3600)
    assert done.returncode == 0, done.stderr
    first, second = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    return Growth((first[0], first[1]), (second[0], second[1]))


def check_growth(growth: Growth, openings: int) -> None:
    """Raise AssertionError where memory grew."""
    assert growth.runs[1] - growth.runs[0] <= RUNS_KIB, growth
    assert growth.openings[1] - growth.openings[0] <= max(RUNS_KIB, OPENING_KIB * openings), growth


def main(runs: int, openings: int) -> None:
    """Soak, and print what stays resident."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = write_tiny(folder / "tiny.edge")
        growth = soak(build_app("x64", folder) / "soak", bundle, runs, openings)
    print(f"{runs} runs: {growth.runs[0]} -> {growth.runs[1]} KiB resident")
    print(f"{openings} openings: {growth.openings[0]} -> {growth.openings[1]} KiB resident")
    check_growth(growth, openings)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
