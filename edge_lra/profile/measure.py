"""Measure a bundle in fresh processes, so that loading and memory are its own."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_lra.bundle import check_files, load_manifest
from edge_lra.errors import EdgeError
from edge_lra.profile.result import Measurement, Operator, Profile, Shape, Timing

TOKENS = 128


def measure(
    bundle: str | Path,
    shapes: Sequence[Shape] | None = None,
    threads: int = 1,
    runs: int = 50,
    warmup: int = 5,
    against: str | Path | None = None,
    adapter: str | None = None,
) -> Profile:
    """Measure latency, loading, memory and operators of a bundle on this machine.

    Args:
        bundle: the bundle's folder.
        shapes: (batch, tokens) to run; None for one text of 128 tokens, or of as many as fit.
        threads: threads within an operator.
        runs: timed runs a shape.
        warmup: runs before them, not counted.
        against: another bundle, run in turns with the first in one process; loading and memory
            of each are taken in a process of its own.
        adapter: of a factored bundle; None for its default, or the first.

    Raises:
        EdgeError: a bundle is missing or damaged, or a number makes no sense.
    """
    for name, value, least in (("threads", threads, 1), ("runs", runs, 1), ("warmup", warmup, 0)):
        if value < least:
            raise EdgeError(f"{name}: found {value}, expected at least {least}")
    paths = [Path(bundle), *([Path(against)] if against is not None else [])]
    if shapes is None:
        shapes = ((1, min(TOKENS, *map(_longest, paths))),)
    if not shapes:
        raise EdgeError("shape: found none, expected at least one such as 1x128")
    for path in paths:
        _check_bundle(path, shapes)
    request = {
        "threads": threads,
        "runs": runs,
        "warmup": warmup,
        "adapter": adapter,
        "shapes": [list(shape) for shape in shapes],
    }
    alone = [_measure_alone(path, request) for path in paths]
    if len(paths) == 2:
        both = _ask("latency", paths, request)["latencies_ms"]
        alone = [_with_timings(m, shapes, both, place) for place, m in enumerate(alone)]
    versions = {name: version(name) for name in ("edge-lra", "onnxruntime", "numpy")}
    return Profile(
        alone[0], threads, describe_machine(), alone[1] if len(alone) == 2 else None, versions
    )


def describe_machine() -> dict[str, Any]:
    """Return what the numbers belong to."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "arch": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _longest(path: Path) -> int:
    return int(load_manifest(path).get("max_length") or sys.maxsize)


def _check_bundle(path: Path, shapes: Sequence[Shape]) -> None:
    manifest = load_manifest(path)
    check_files(path, manifest, "once")
    longest = _longest(path)
    for batch, tokens in shapes:
        if batch < 1 or not 1 <= tokens <= longest:
            raise EdgeError(
                f"shape: found {batch}x{tokens}, expected at least 1 text of 1 to {longest} tokens"
            )


def _measure_alone(path: Path, request: dict[str, Any]) -> Measurement:
    found = _ask("latency", [path], request)
    operators = _ask("operators", [path], request)["operators"]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    measured = Measurement(
        str(path),
        found["adapters"][0],
        (),
        found["load_s"],
        found["peak_rss_mib"],
        found["model_rss_mib"],
        {file.relative_to(path).as_posix(): file.stat().st_size for file in files},
        tuple(Operator(**row) for row in operators),
    )
    return _with_timings(measured, request["shapes"], found["latencies_ms"], 0)


def _with_timings(
    measured: Measurement, shapes: Sequence[Sequence[int]], latencies_ms: Any, place: int
) -> Measurement:
    timings = [
        Timing((shape[0], shape[1]), tuple(rows[place]))
        for shape, rows in zip(shapes, latencies_ms, strict=True)
    ]
    return Measurement(**{**vars(measured), "timings": tuple(timings)})


def _ask(what: str, bundles: Sequence[Path], request: dict[str, Any]) -> dict[str, Any]:
    """Run the child once and return its answer."""
    message = {**request, "what": what, "bundles": [str(path.resolve()) for path in bundles]}
    done = subprocess.run(
        [sys.executable, *_path_flags(), "-m", "edge_lra.profile.child"],
        input=json.dumps(message),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EdgeError(f"{bundles[0]}: {_failure(done.returncode, done.stderr)}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise EdgeError(answer["error"])
    return answer


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
