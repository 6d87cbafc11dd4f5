"""Time by operator, from onnxruntime's profiler in a session of its own."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from edge_lra.profile.child import pick_adapter, token_inputs

from edge_lra.runner import Runner

WARMUP = 3
RUNS = 10
KERNEL = "_kernel_time"
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})  # their time is that of the nodes inside


def measure_operators(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the first shape under the profiler; return operators, slowest first.

    The profiler costs time, so latencies are never taken from this session.
    """
    runner = Runner.load(Path(request["bundles"][0]), threads=request["threads"], verify="never")
    pick_adapter(runner, request["adapter"])
    batch, tokens = request["shapes"][0]
    feeds = token_inputs(runner, (int(batch), int(tokens))) | runner.adapter_tensors()
    with tempfile.TemporaryDirectory() as folder:
        options = _options(runner, request["threads"], Path(folder) / "ops")
        session = onnxruntime.InferenceSession(
            str(runner.path / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(WARMUP + RUNS):
            session.run(list(runner.output_names), feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return sum_by_operator(events)


def _options(runner: Runner, threads: int, prefix: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    for key, value in (runner.manifest.get("session_options") or {}).items():
        options.add_session_config_entry(key, str(int(value) if value in (True, False) else value))
    return options


def sum_by_operator(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum kernel times by operator over the runs after the warm-up; times a run, in ms."""
    starts = sorted(e["ts"] for e in events if e.get("name") == "model_run")[WARMUP:]
    micros: dict[str, int] = defaultdict(int)
    nodes: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if str(event.get("name", "")).endswith(KERNEL) and starts and event["ts"] >= starts[0]:
            operator = event["args"]["op_name"]
            if operator in CONTROL_FLOW:
                continue
            micros[operator] += event["dur"]
            nodes[operator].add(event["name"])
    rows = [
        {"name": name, "nodes": len(nodes[name]), "mean_ms": total / len(starts) / 1e3}
        for name, total in micros.items()
    ]
    return sorted(rows, key=lambda row: -row["mean_ms"])
