"""Answer "sweep": the median of one shape by number of threads, and of a token behind a context.

Request: bundles (one), shape, adapter or null, sweep (numbers of threads), runs or null, budget_s
(of all numbers together), warmup, and of language models context or null. Answer: p50_ms, in the
order of `sweep`; decode_ms likewise, or null without a context.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_lra.agent.inputs import shape_of
from edge_lra.agent.timing import Plan, time_in_turns
from edge_lra.agent.work import load_bundle, work_with


def measure_sweep(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load the bundle once a number of threads, and time it.

    Raises:
        EdgeError: the bundle cannot be opened.
    """
    counts = [int(threads) for threads in request["sweep"]]
    context = request.get("context")
    contexts = [None] if context is None else [None, int(context)]
    budget_s = request["budget_s"] / len(counts) / len(contexts)
    plan = Plan(request["runs"], budget_s, int(request["warmup"]))
    rows = [_medians(request, threads, contexts, plan) for threads in counts]
    return {
        "p50_ms": [row[0] for row in rows],
        "decode_ms": None if context is None else [row[1] for row in rows],
    }


def _medians(
    request: Mapping[str, Any], threads: int, contexts: Sequence[int | None], plan: Plan
) -> list[float]:
    loaded = load_bundle(Path(request["bundles"][0]), threads, request["adapter"])
    medians = []
    for context in contexts:
        work = work_with(loaded, shape_of(request["shape"]), context)
        work.first()
        (latencies_ms,) = time_in_turns([work.again()], plan)
        medians.append(statistics.median(latencies_ms))
    return medians
