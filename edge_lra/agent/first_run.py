"""The process that "cold" starts: imports, loads, runs once, and prints when it had the result."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from edge_lra.agent.imports import import_runner


def first_run(request: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of each stage and the monotonic moment of the first result."""
    imports_s = import_runner()
    from edge_lra.agent.inputs import shape_of
    from edge_lra.agent.timing import timed_run
    from edge_lra.agent.work import load_bundle, work_with

    start = time.perf_counter()
    folder, threads = Path(request["bundles"][0]), int(request["threads"])
    loaded = load_bundle(folder, threads, request["adapter"])
    load_s = time.perf_counter() - start
    work = work_with(loaded, shape_of(request["shape"]))
    first_run_ms = timed_run(work.first)
    return {
        "imports_s": imports_s,
        "load_s": load_s,
        "first_run_ms": first_run_ms,
        "result_at_s": time.monotonic(),
    }


if __name__ == "__main__":
    print(json.dumps(first_run(json.loads(sys.argv[1]))))
