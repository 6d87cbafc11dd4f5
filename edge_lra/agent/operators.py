"""Answer "operators": the time of every operator, layer and node, from onnxruntime's profiler.

Request: bundles (one), shape, threads, adapter or null, budget_s, and of language models context:
null for prompts of the shape in one run, or how many tokens to read first, when a run is the step
of the next one. Answer: operators (slowest first), layers (in the graph's order), spans (of the
median run). The profiler costs time, so latencies are never taken from this session.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from edge_lra.agent.adapter import pick_adapter
from edge_lra.agent.inputs import all_inputs, open_session, session_options, shape_of
from edge_lra.agent.layers import layers_by_node, read_nodes
from edge_lra.agent.timing import Run
from edge_lra.agent.work import NextToken
from edge_lra.bundle import load_manifest
from edge_lra.runner import Generator
from edge_lra.runner.cache import CHUNK, Layout

WARMUP = 3
RUNS = 20
LEAST_RUNS = 3
KERNEL = "_kernel_time"
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})  # their time is that of the nodes inside
BUILT = re.compile(r"[A-Za-z]\w*_\d+")  # how a node is named; a fused one has more behind it


class Kernel(NamedTuple):
    """One node in one run; microseconds since the run began."""

    name: str
    operator: str
    layer: str
    start_us: float
    duration_us: float


def measure_operators(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the shape under the profiler.

    Raises:
        EdgeError: the bundle cannot be opened, or has no such adapter.
    """
    folder = Path(request["bundles"][0])
    with tempfile.TemporaryDirectory() as scratch:
        options = session_options(folder, int(request["threads"]))
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "ops")
        session = open_session(folder, options)
        run, before = _prepare(session, folder, request)
        start, count = time.perf_counter(), 0
        while count < WARMUP + RUNS and (
            count < WARMUP + LEAST_RUNS or time.perf_counter() - start < float(request["budget_s"])
        ):
            run()
            count += 1
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    graph = folder / "model.onnx"  # absent beside model.ort, whose nodes are onnxruntime's own
    layers = layers_by_node(read_nodes(graph)) if graph.exists() else {}
    return summarize(split_runs(events, layers, before + WARMUP))


def _prepare(session: Any, folder: Path, request: Mapping[str, Any]) -> tuple[Run, int]:
    """Return what is profiled, and how many runs of the session went into preparing it."""
    if request.get("context") is None:
        feeds = all_inputs(folder, shape_of(request["shape"]), request["adapter"])
        return partial(session.run, None, feeds), 0
    manifest, context = load_manifest(folder), int(request["context"])
    generator = Generator(folder, manifest, session, Layout.read(manifest))
    generator.use(pick_adapter(manifest, request["adapter"]))
    work = NextToken(generator, context)
    work.first()
    return work.again(), math.ceil(context / CHUNK)


def split_runs(
    events: Sequence[Mapping[str, Any]], layers: Mapping[str, str], skipped: int = WARMUP
) -> list[tuple[float, list[Kernel]]]:
    """Return microseconds and kernels of each run after the first ones, in order."""
    runs = sorted((e for e in events if e.get("name") == "model_run"), key=lambda e: e["ts"])
    kernels = sorted(
        (e for e in events if str(e.get("name", "")).endswith(KERNEL)), key=lambda e: e["ts"]
    )
    found = []
    for run in runs[skipped:]:
        begin, end = run["ts"], run["ts"] + run["dur"]
        inside = [event for event in kernels if begin <= event["ts"] < end]
        found.append((float(run["dur"]), _name_layers(inside, begin, layers)))
    return found


def _name_layers(
    events: Sequence[Mapping[str, Any]], begin: float, layers: Mapping[str, str]
) -> list[Kernel]:
    """Return a run's kernels; one that onnxruntime added belongs where the one before does."""
    kernels: list[Kernel] = []
    layer = next(iter(layers.values()), "")
    for event in events:
        name = str(event["name"]).removesuffix(KERNEL)
        built = BUILT.match(name)
        layer = layers.get(name) or layers.get(built[0] if built else "") or layer
        operator = str(event["args"]["op_name"])
        kernels.append(Kernel(name, operator, layer, event["ts"] - begin, event["dur"]))
    return kernels


def summarize(runs: Sequence[tuple[float, list[Kernel]]]) -> dict[str, Any]:
    """Return means over the middle half of the runs, by duration, and the median run's spans.

    Another process that takes the core in one run would else be charged to the operator it met.
    """
    ordered = sorted(runs, key=lambda run: run[0])
    quarter = len(ordered) // 4
    middle = [kernels for _, kernels in ordered[quarter : len(ordered) - quarter]]
    layers = [row for row in _sum(middle, "layer").values() if row["name"]]
    return {
        "operators": sorted(_sum(middle, "operator").values(), key=lambda row: -row["mean_ms"]),
        "layers": sorted(layers, key=lambda row: _layer_order(row["name"])),
        "spans": [kernel._asdict() for kernel in ordered[len(ordered) // 2][1]],
        "run_ms": statistics.mean(duration for duration, _ in ordered) / 1e3,
    }


def _layer_order(name: str) -> tuple[int, int]:
    """Sort embeddings, layers by number, head."""
    if name.startswith("layer "):
        return 1, int(name.removeprefix("layer "))
    return (0, 0) if name == "embeddings" else (2, 0)


def _sum(runs: Sequence[Sequence[Kernel]], key: str) -> dict[str, dict[str, Any]]:
    """Sum kernel times by a field of theirs; times a run, in ms."""
    micros: dict[str, float] = defaultdict(float)
    nodes: dict[str, set[str]] = defaultdict(set)
    for kernel in (kernel for run in runs for kernel in run):
        if kernel.operator not in CONTROL_FLOW:
            micros[getattr(kernel, key)] += kernel.duration_us
            nodes[getattr(kernel, key)].add(kernel.name)
    return {
        name: {"name": name, "nodes": len(nodes[name]), "mean_ms": total / len(runs) / 1e3}
        for name, total in micros.items()
    }
