"""The process that measures: it holds the runner and what it loads, nothing else.

Reads a request as JSON from standard input and writes the answer as JSON to standard output.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from edge_lra.profile.memory import peak_rss_mib, rss_mib

from edge_lra.errors import EdgeError
from edge_lra.runner import Runner

Arrays = dict[str, np.ndarray]


def token_inputs(runner: Runner, shape: tuple[int, int]) -> Arrays:
    """Return random token ids (batch, tokens) of the vocabulary with every token attended."""
    config = json.loads((runner.path / "config.json").read_text(encoding="utf-8"))
    random = np.random.default_rng(0)
    values = {
        "input_ids": random.integers(1, int(config["vocab_size"]), shape, dtype=np.int64),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    return {name: values[name] for name in runner.input_names}


def pick_adapter(runner: Runner, name: str | None) -> None:
    """Choose the named adapter, else the default, else the first: none may mean no head."""
    if name is not None:
        runner.use(name)
    elif runner.default_adapter is None and runner.adapters:
        runner.use(runner.adapters[0])


def timed_run(runner: Runner, inputs: Arrays) -> float:
    """Run once; return milliseconds."""
    start = time.perf_counter_ns()
    runner.run(inputs)
    return (time.perf_counter_ns() - start) / 1e6


def time_in_turns(runners: list[Runner], shape: tuple[int, int], request: Any) -> list[list[float]]:
    """Run every bundle once a round, in alternating order, so that drift meets all alike."""
    inputs = [token_inputs(runner, shape) for runner in runners]
    for _ in range(request["warmup"]):
        for runner, feeds in zip(runners, inputs, strict=True):
            runner.run(feeds)
    latencies: list[list[float]] = [[] for _ in runners]
    for round_number in range(request["runs"]):
        order = range(len(runners)) if round_number % 2 == 0 else reversed(range(len(runners)))
        for place in order:
            latencies[place].append(timed_run(runners[place], inputs[place]))
    return latencies


def measure_here(request: dict[str, Any]) -> dict[str, Any]:
    """Load the bundles, run them, and return latencies by shape and bundle, load and memory."""
    imports_mib = rss_mib()
    start = time.perf_counter()
    runners = [
        Runner.load(Path(path), threads=request["threads"], verify="never")
        for path in request["bundles"]
    ]
    load_s = time.perf_counter() - start
    for runner in runners:
        pick_adapter(runner, request["adapter"])
    shapes = [(int(batch), int(tokens)) for batch, tokens in request["shapes"]]
    latencies_ms = [time_in_turns(runners, shape, request) for shape in shapes]
    peak_mib = peak_rss_mib()
    return {
        "load_s": load_s,
        "latencies_ms": latencies_ms,
        "peak_rss_mib": peak_mib,
        "model_rss_mib": max(0.0, peak_mib - imports_mib),
        "adapters": [runner.default_adapter for runner in runners],
    }


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what the request's `what` names; a user's mistake becomes an `error`."""
    try:
        if request["what"] == "operators":
            from edge_lra.profile.operators import measure_operators

            return {"operators": measure_operators(request)}
        return measure_here(request)
    except EdgeError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
