"""Latency of several engines in turns, and what loading each takes in a process of its own."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import engines
from engines import Engine, Run, Tokens

SHAPES = {
    "1x16": [16],
    "1x128": [128],
    "8x128": [128] * 8,
    "ragged 8": list(range(16, 129, 16)),
}
WARMUP = 3
# Workers of an engine spin for up to 200 ms after its run (OpenMP's default) and would take a
# core from the next one's.
PAUSE_S = 0.22


def time_once(run: Run, tokens: Tokens) -> float:
    """Run once; return milliseconds."""
    start = time.perf_counter_ns()
    run(tokens)
    return (time.perf_counter_ns() - start) / 1e6


def time_in_turns(
    runs: Mapping[str, Run], tokens: Tokens, rounds: int, pause_s: float
) -> dict[str, dict[str, float]]:
    """Run every engine once a round, in a new order each, so that drift meets all alike.

    No engine runs twice in a row: its weights would still be in the cache.
    """
    for run in runs.values():
        for _ in range(WARMUP):
            run(tokens)
    latencies: dict[str, list[float]] = {name: [] for name in runs}
    random, order = Random(0), list(runs)
    for _ in range(rounds):
        last = order[-1]
        random.shuffle(order)
        if order[0] == last:
            order.append(order.pop(0))
        for name in order:
            time.sleep(pause_s)
            latencies[name].append(time_once(runs[name], tokens))
    return {
        name: {"median_ms": statistics.median(values), "min_ms": min(values)}
        for name, values in latencies.items()
    }


def row_by_row(run: Run) -> Run:
    """Return a run that gives each row its own run at its true length."""

    def run_rows(tokens: Tokens) -> Any:
        lengths = tokens["attention_mask"].sum(axis=1).tolist()
        return [
            run({name: array[i : i + 1, :length] for name, array in tokens.items()})
            for i, length in enumerate(lengths)
        ]

    return run_rows


def measure_latencies(
    listed: Sequence[Engine], ours: str, threads: int, rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return latencies by shape and engine, all engines loaded in this process."""
    runs = {engine.name: engines.KINDS[engine.kind](engine.path, threads) for engine in listed}
    pause_s = PAUSE_S if threads > 1 else 0.0
    result = {}
    for shape, lengths in SHAPES.items():
        chosen = dict(runs)
        if len(set(lengths)) > 1:
            chosen[f"{ours}, row by row"] = row_by_row(runs[ours])
        tokens = engines.random_tokens(lengths)
        result[shape] = time_in_turns(chosen, tokens, rounds, pause_s)
    return result


def measure_loading(listed: Sequence[Engine], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median load seconds and memory of each engine, a child process a turn."""
    samples: dict[str, list[dict[str, float]]] = {engine.name: [] for engine in listed}
    for _ in range(rounds):
        for engine in listed:
            command = [sys.executable, engines.__file__, engine.kind, str(engine.path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            samples[engine.name].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {key: statistics.median(s[key] for s in found) for key in found[0]}
        for name, found in samples.items()
    }


def describe_cpu() -> dict[str, Any]:
    """Return the processor's name and whether it multiplies int8 in one step, where known."""
    name, flags = platform.processor() or platform.machine(), None
    info = Path("/proc/cpuinfo")
    if info.is_file():
        fields = dict(
            (part.strip() for part in line.split(":", 1))
            for line in info.read_text().splitlines()
            if ":" in line
        )
        name, flags = fields.get("model name", name), fields.get("flags", "").split()
    vnni = None if flags is None else bool({"avx_vnni", "avx512_vnni"} & set(flags))
    return {"name": name, "vnni": vnni}
