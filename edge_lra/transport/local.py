"""This machine: a process of its own for each request."""

from __future__ import annotations

import json
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.transport.base import Host


class Local:
    """Runs the agent with this Python; a bundle is where it lies."""

    name = "local"
    keeps_time = True

    def __init__(self) -> None:
        self.target = platform.node() or "this machine"

    def probe(self) -> Host:
        """Return what this machine is."""
        found = self.run({"what": "probe"})
        return Host(**{**found, "features": tuple(found["features"])})

    def push(self, bundle: Path) -> str:
        """Return the bundle's own place."""
        return str(bundle.resolve())

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Start the agent once and return its answer."""
        done = subprocess.run(
            [sys.executable, *_path_flags(), "-m", "edge_lra.agent"],
            input=json.dumps(dict(request)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            where = (request.get("bundles") or [self.target])[0]
            raise EdgeError(f"{where}: {_failure(done.returncode, done.stderr)}")
        answer: dict[str, Any] = json.loads(done.stdout)
        if "error" in answer:
            raise EdgeError(answer["error"])
        return answer

    def pull(self, place: str, target: Path) -> None:
        """Copy a file."""
        shutil.copyfile(place, target)

    def clean_up(self) -> None:
        """Leave everything: nothing was brought."""


def _path_flags() -> list[str]:
    """Keep the current folder off the child's path unless this process has it there too.

    `-m` puts it first, and a project's own random.py would stand before Python's.
    """
    here = Path.cwd()
    return [] if any(Path(entry).resolve() == here for entry in sys.path) else ["-P"]


def _failure(code: int, stderr: str) -> str:
    """Return one line on how the child ended; a negative code is a signal's number."""
    last = "".join(f": {line}" for line in stderr.strip().splitlines()[-1:])
    if code >= 0:
        return f"the measuring process failed{last or f' with exit code {code}'}"
    name = signal.Signals(-code).name
    # Linux ends whom it finds too large with SIGKILL.
    remedy = "; free memory, or give a smaller --shape" if name == "SIGKILL" else ""
    return f"the measuring process was ended by {name}{last}{remedy}"
