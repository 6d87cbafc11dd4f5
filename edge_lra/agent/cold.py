"""Answer "cold": start new processes here and time them to their first result.

Request: bundles (one), shape, threads, adapter or null. Answer: lists, one entry a process, of
cold_s, imports_s, load_s, first_run_ms. Files are in the system's memory after the first process,
which is not counted: a start from a cold disk is slower.

Both ends are read from the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from edge_lra.errors import EdgeError

REPEATS = 5
BUDGET_S = 20.0
# How to start Python where sys.executable cannot be started itself: an emulated one.
PYTHON = "EDGE_LRA_PYTHON"


def measure_cold(request: Mapping[str, Any]) -> dict[str, Any]:
    """Start the processes; the first only brings the files into memory.

    Raises:
        EdgeError: a process cannot be started or fails.
    """
    begun = time.monotonic()
    _start_once(request)
    found: list[dict[str, float]] = []
    while not found or (len(found) < REPEATS and time.monotonic() - begun < BUDGET_S):
        found.append(_start_once(request))
    return {name: [stages[name] for stages in found] for name in found[0]}


def _start_once(request: Mapping[str, Any]) -> dict[str, float]:
    keys = ("bundles", "shape", "threads", "adapter")
    message = json.dumps({key: request[key] for key in keys})
    python = shlex.split(os.environ.get(PYTHON, "")) or [sys.executable]
    flags = ["-P"] if sys.flags.safe_path else []
    command = [*python, *flags, "-m", "edge_lra.agent.first_run", message]
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EdgeError(
            f"cold start: {python[0]} cannot be started: {error.strerror}; name the command that "
            f"starts Python in {PYTHON}"
        ) from error
    if done.returncode != 0:
        last = "".join(done.stderr.strip().splitlines()[-1:]) or f"exit code {done.returncode}"
        raise EdgeError(f"cold start: the new process failed: {last}")
    stages: dict[str, float] = json.loads(done.stdout)
    return {"cold_s": stages.pop("result_at_s") - start, **stages}
