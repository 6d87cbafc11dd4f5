"""Answer "measure": load bundles, run one shape, and watch latency and memory.

Request: bundles (their places), shape, threads, runs or null, budget_s, warmup, adapter or null,
switch (whether to time choosing another adapter), and of language models context: null for
prompts of the shape, or how many tokens to read first, when each run gives the next one.

Answer: latencies_ms by bundle and run; adapters by bundle; imports_s, load_s, first_run_ms;
memory; switch_ms or null; cache, of the first bundle: bytes that keys and values fill and
reserved_bytes, null for other models; clocks before and after the timed runs; busy, the part of
their time that the calling thread had a core (null with pauses between runs).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_lra.agent.clocks import read_clocks
from edge_lra.agent.imports import import_runner
from edge_lra.agent.memory import Split, Timeline, mapped_mib, peak_rss_mib, split

if TYPE_CHECKING:
    from edge_lra.agent.work import Work


@dataclass
class _Opened:
    """What the request's bundles became, and what that took."""

    works: list[Work]
    adapters: list[str | None]
    load_s: float
    first_run_ms: float
    imported: Split | None
    loaded: Split | None


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the request's bundles in this process.

    Raises:
        EdgeError: a bundle cannot be opened, or has no such adapter.
    """
    imports_s = import_runner()
    folders = [Path(place) for place in request["bundles"]]
    timeline = Timeline()
    opened = _open(folders, request, timeline)
    steady = _run(opened, request, timeline)
    peak_mib = peak_rss_mib()  # before this program's own book-keeping adds to it
    timeline.sample(with_pss=True)
    splits = _splits(folders, opened.imported, opened.loaded, split())
    wanted = request.get("switch") and len(folders) == 1
    return steady | {
        "imports_s": imports_s,
        "load_s": opened.load_s,
        "first_run_ms": opened.first_run_ms,
        "adapters": opened.adapters,
        "memory": timeline.as_dict() | {"peak_rss_mib": peak_mib, "split": splits},
        "switch_ms": opened.works[0].switch_ms() if wanted else None,
        "cache": opened.works[0].cache(),
    }


def _open(folders: list[Path], request: Mapping[str, Any], timeline: Timeline) -> _Opened:
    """Load the bundles and run each once, under the eyes of the sampling thread."""
    from edge_lra.agent.inputs import shape_of
    from edge_lra.agent.timing import timed_run
    from edge_lra.agent.work import load_bundle, work_with

    threads, shape = int(request["threads"]), shape_of(request["shape"])
    timeline.mark("imports")
    imported = split()
    with timeline.watch():
        start = time.perf_counter()
        loaded = [load_bundle(folder, threads, request["adapter"]) for folder in folders]
        load_s = time.perf_counter() - start
        after = split()
        timeline.mark("loaded")
        works = [work_with(one, shape, request.get("context")) for one in loaded]
        first_runs_ms = [timed_run(work.first) for work in works]
        timeline.mark("first run")
    adapters = [one.default_adapter for one in loaded]
    return _Opened(works, adapters, load_s, first_runs_ms[0], imported, after)


def _run(opened: _Opened, request: Mapping[str, Any], timeline: Timeline) -> dict[str, Any]:
    """Time the runs; return latencies, clocks before and after, and the thread's share."""
    from edge_lra.agent.timing import PAUSE_S, Plan, time_in_turns

    pauses = int(request["threads"]) > 1 and len(opened.works) > 1
    plan = Plan(
        request["runs"],
        float(request["budget_s"]),
        int(request["warmup"]),
        PAUSE_S if pauses else 0.0,
    )
    clocks: list[dict[str, Any]] = []
    moments: list[tuple[float, float]] = []  # of the wall and of this thread's processor time

    def look() -> None:
        clocks.append(read_clocks())
        moments.append((time.perf_counter(), time.thread_time()))

    def steady() -> None:
        timeline.mark("steady")
        look()

    runs = [work.again() for work in opened.works]
    latencies_ms = time_in_turns(runs, plan, timeline.between_runs, steady)
    look()
    wall_s, busy_s = (end - begin for begin, end in zip(*moments, strict=True))
    return {
        "latencies_ms": latencies_ms,
        "clocks": clocks,
        "busy": None if pauses else busy_s / wall_s,
    }


def _splits(folders: list[Path], *moments: Split | None) -> dict[str, float] | None:
    """Return resident memory by kind once imported, loaded and at the end; None if untold."""
    imported, loaded, ended = moments
    if imported is None or loaded is None or ended is None:
        return None
    return {
        "imported_anonymous_mib": imported.anonymous_mib,
        "imported_file_mib": imported.file_mib,
        "loaded_anonymous_mib": loaded.anonymous_mib,
        "ended_anonymous_mib": ended.anonymous_mib,
        "ended_file_mib": ended.file_mib,
        "mapped_mib": sum(mapped_mib(folder) for folder in folders),
    }
