"""Programs that compile or run what was embedded."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import edge_lra

ROOT = Path(edge_lra.__file__).parents[1]


def done(*command: object, cwd: Path, **environment: str) -> str:
    """Run a program that must succeed; return what it printed."""
    found = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout
