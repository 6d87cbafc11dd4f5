"""The agent as a process: how it is started, and what its end means."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError

AGENT = "edge_lra.agent"
# onnxruntime 1.32 writes a device id and a database below ~/.cache when it is imported, before
# anyone can call its switch.
NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1"}


class TargetLost(EdgeError):
    """The way to the target broke while something ran there; what came before is good."""


class NotAnswered(EdgeError):
    """What runs on the target has no such answer, though it has others."""


def path_flags() -> list[str]:
    """Keep the current folder off the child's path unless this process has it there too.

    `-m` puts it first, and a project's own random.py would stand before Python's.
    """
    here = Path.cwd()
    return [] if any(Path(entry).resolve() == here for entry in sys.path) else ["-P"]


def failure(code: int, stderr: str) -> str:
    """Return one line on how the agent ended; a negative code is a signal's number."""
    last = "".join(f": {line}" for line in stderr.strip().splitlines()[-1:])
    if code >= 0:
        return f"the measuring process failed{last or f' with exit code {code}'}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # another system's signal
        name = f"signal {-code}"
    # Linux ends whom it finds too large with SIGKILL.
    remedy = "; free memory, or give a smaller --shape" if name == "SIGKILL" else ""
    return f"the measuring process was ended by {name}{last}{remedy}"


def read_answer(target: str, stdout: str) -> dict[str, Any]:
    """Return the agent's answer.

    Raises:
        EdgeError: the agent reports a mistake of the user, or printed something else.
    """
    try:
        answer = json.loads(stdout)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        shown = " ".join(stdout.split())[:80]
        raise EdgeError(
            f"{target}: the measuring process answered {shown!r}, expected JSON; "
            "let nothing else print there"
        )
    if "error" in answer:
        raise EdgeError(str(answer["error"]))
    return answer
