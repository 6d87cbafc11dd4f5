"""The process that "cold" starts: imports, loads, runs once, and prints when it had the result."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from edge_lra.agent.adapter import pick_adapter
from edge_lra.agent.imports import import_runner


def first_run(request: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of each stage and the monotonic moment of the first result."""
    imports_s = import_runner()
    from edge_lra.agent.inputs import shape_of, token_inputs
    from edge_lra.agent.timing import timed_run
    from edge_lra.runner import Runner

    start = time.perf_counter()
    runner = Runner.load(
        Path(request["bundles"][0]), threads=int(request["threads"]), verify="never"
    )
    runner.use(pick_adapter(runner.manifest, request["adapter"]))
    load_s = time.perf_counter() - start
    inputs = token_inputs(runner.path, runner.input_names, shape_of(request["shape"]))
    first_run_ms = timed_run(partial(runner.run, inputs))
    return {
        "imports_s": imports_s,
        "load_s": load_s,
        "first_run_ms": first_run_ms,
        "result_at_s": time.monotonic(),
    }


if __name__ == "__main__":
    print(json.dumps(first_run(json.loads(sys.argv[1]))))
