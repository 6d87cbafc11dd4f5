"""Where `make cpp` puts what it builds, and how its programs are run."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

import edge_lra

ROOT = Path(edge_lra.__file__).parent.parent
SOURCES = ROOT / "runtime/cpp"
BUILD = ROOT / "build/cpp"
CASES = ROOT / "runtime/cases"
TOOL = BUILD / "x64/edge-lra-run"
SHARED = BUILD / "x64/libedge_lra.so"
Ended = subprocess.CompletedProcess[str]


def library_of(release: str | None = None) -> Path:
    """Return onnxruntime's library: the installed package's, or that of an older release."""
    installed = Path(onnxruntime.__file__).parent
    folder = ROOT / f".cache/onnxruntime-{release}/onnxruntime" if release else installed
    (found,) = folder.glob("capi/libonnxruntime.so.*")
    return found


def run_program(
    *command: object, environment: Mapping[str, str] | None = None, timeout_s: float = 300
) -> Ended:
    """Run a program to its end."""
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ
    }
    return subprocess.run(
        [str(word) for word in command],
        env=kept | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def call_tool(verb: str, *words: object, release: str | None = None, tool: Path = TOOL) -> Ended:
    """Run edge-lra-run with the installed onnxruntime, or an older release."""
    return run_program(tool, verb, "--ort", library_of(release), *words)


def ask_tool(verb: str, *words: object, release: str | None = None) -> dict[str, Any]:
    """Return what edge-lra-run answers as JSON."""
    done = call_tool(verb, "--json", *words, release=release)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
