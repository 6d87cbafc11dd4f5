"""Answer "sweep": the median of one shape by number of threads.

Request: bundles (one), shape, adapter or null, sweep (numbers of threads), runs or null, budget_s
(of all numbers together), warmup. Answer: p50_ms, in the order of `sweep`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_lra.agent.adapter import pick_adapter
from edge_lra.agent.inputs import shape_of, token_inputs
from edge_lra.agent.timing import Plan, time_in_turns
from edge_lra.runner import Runner


def measure_sweep(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load and time the bundle once a number of threads.

    Raises:
        EdgeError: the bundle cannot be opened.
    """
    counts = [int(threads) for threads in request["sweep"]]
    plan = Plan(request["runs"], request["budget_s"] / len(counts), int(request["warmup"]))
    return {"p50_ms": [_median(request, threads, plan) for threads in counts]}


def _median(request: Mapping[str, Any], threads: int, plan: Plan) -> float:
    runner = Runner.load(Path(request["bundles"][0]), threads=threads, verify="never")
    runner.use(pick_adapter(runner.manifest, request["adapter"]))
    inputs = token_inputs(runner.path, runner.input_names, shape_of(request["shape"]))
    (latencies_ms,) = time_in_turns([runner.prepare(inputs)], plan)
    return statistics.median(latencies_ms)
