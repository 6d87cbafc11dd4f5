"""This machine: a fresh process of this Python for every request."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.transport.base import Host
from edge_lra.transport.process import AGENT, NO_TELEMETRY, failure, path_flags, read_answer


class Local:
    """The machine this runs on; nothing is copied and nothing stays."""

    name = "local"
    keeps_time = True

    def __init__(self) -> None:
        self.target = platform.node() or "this machine"

    def probe(self) -> Host:
        """Return what this machine is."""
        found = self.run({"what": "probe"})
        return Host(**{**found, "features": tuple(found["features"])})

    def push(self, bundle: Path) -> str:
        """Return where the bundle is."""
        return str(bundle.resolve())

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let the agent answer a request in a process of its own.

        Raises:
            EdgeError: the agent reports a mistake, failed, or was ended by a signal.
        """
        done = subprocess.run(
            [sys.executable, *path_flags(), "-m", AGENT],
            input=json.dumps(dict(request)),
            env=os.environ | NO_TELEMETRY,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            where = next(iter(request.get("bundles") or ()), self.target)
            raise EdgeError(f"{where}: {failure(done.returncode, done.stderr)}")
        return read_answer(self.target, done.stdout)

    def pull(self, place: str, target: Path) -> None:
        """Copy a file."""
        try:
            shutil.copyfile(place, target)
        except OSError as error:
            raise EdgeError(f"{place}: cannot be copied: {error.strerror}; check it") from error

    def clean_up(self) -> None:
        """There is nothing to remove."""
