"""Write what was measured as a Chrome trace, which Perfetto and chrome://tracing open.

The form is that of the Trace Event Format: complete events (`ph` X) that nest by time within a
thread, instants (i), counters (C) and names (M); times are microseconds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from edge_lra.device import HOST
from edge_lra.errors import EdgeError
from edge_lra.profile.measurement import Measurement, Span
from edge_lra.profile.report.series import IMPORTS, INTERPRETER, start_parts
from edge_lra.profile.report.words import machine, name_shape
from edge_lra.profile.result import Entry, Profile
from edge_lra.whole_files import write_whole

Event = dict[str, Any]
logger = logging.getLogger(__name__)
SECOND = 1e6  # microseconds
GAP_US = 1e4  # between the memory's timeline and the profiled run, which came later
THREADS = {1: "start-up", 2: "marks", 3: "one run by layer", 4: "one run by operator"}
START, MARKS, LAYERS, OPERATORS = THREADS


def write_trace(profile: Profile, path: Path) -> None:
    """Write a process for every bundle that was measured; what was not has no times to show.

    Raises:
        EdgeError: nothing was measured.
    """
    measured = [entry for entry in profile.entries if entry.measured]
    others = [entry for entry in profile.entries if not entry.measured]
    if not measured:
        names = ", ".join(dict.fromkeys(entry.device_title for entry in others))
        raise EdgeError(
            f"{path}: found estimates or an emulation alone for {names}, expected a measurement: "
            "a trace holds times that were taken; give a --target"
        )
    for entry in others:
        logger.warning(
            "%s: not in the trace: nothing was measured on %s", entry.bundle, entry.device_title
        )
    events = [event for pid, entry in enumerate(measured, 1) for event in _process(entry, pid)]
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {**profile.versions, "not measured": [entry.device for entry in others]},
    }
    write_whole(path, json.dumps(document, ensure_ascii=False, allow_nan=False))


def _process(entry: Entry, pid: int) -> Iterator[Event]:
    """Yield the events of one bundle on one host, on a clock that begins with the process."""
    found = entry.measured
    assert found is not None
    where = machine(found) if entry.device == HOST else f"{entry.device_title} ({machine(found)})"
    yield _name("process_name", pid, 0, f"{entry.bundle} on {where}")
    yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "ts": 0,
           "args": {"sort_index": pid}}  # fmt: skip
    for tid, name in THREADS.items():
        yield _name("thread_name", pid, tid, name)
    yield from _start(found, pid)
    yield from _memory(found, pid)
    begin = max(_imported_us(found) + _lasted_us(found), _start_us(found)) + GAP_US
    if found.spans:
        shape = name_shape(found.timings[0].shape) if found.timings else "one run"
        yield from _run(found.spans, shape, begin, pid)
    if found.step and found.step.spans:
        begin = _end_us(found.spans, begin) + GAP_US
        yield from _run(found.step.spans, found.step.name, begin, pid)


def _name(kind: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def _slice(name: str, start: float, end: float, pid: int, tid: int, **more: Any) -> Event:
    """Return a complete event; both ends are rounded, so that what ends together still does."""
    ts = round(start, 3)
    event = {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": ts}
    return event | {"dur": round(round(end, 3) - ts, 3)} | more


def _parts_us(found: Measurement) -> dict[str, float]:
    return {name: seconds * SECOND for name, seconds in start_parts(found.start).items()}


def _start_us(found: Measurement) -> float:
    return sum(_parts_us(found).values())


def _imported_us(found: Measurement) -> float:
    """Return when the imports were done: the memory's timeline counts from there."""
    parts = _parts_us(found)
    return parts.get(INTERPRETER, 0.0) + parts[IMPORTS]


def _lasted_us(found: Measurement) -> float:
    samples = [sample.second for sample in found.memory.samples]
    seconds = samples + [mark.second for mark in found.memory.marks]
    return max(seconds, default=0.0) * SECOND


def _start(found: Measurement, pid: int) -> Iterator[Event]:
    parts = _parts_us(found)
    cold = found.start.cold_s
    args = {} if cold is None else {"args": {"cold_s": cold}}
    name = "start" if cold is None else "cold start"
    yield _slice(name, 0.0, sum(parts.values()), pid, START, cat="start", **args)
    now = 0.0
    for name, duration in parts.items():
        yield _slice(name, now, now + duration, pid, START, cat="start")
        now += duration


def _memory(found: Measurement, pid: int) -> Iterator[Event]:
    zero = _imported_us(found)
    for sample in found.memory.samples:
        values = {"rss": sample.rss_mib}
        if sample.pss_mib is not None:
            values["pss"] = sample.pss_mib
        ts = round(zero + sample.second * SECOND, 3)
        for name, value in values.items():
            yield {"ph": "C", "name": f"{name}, MiB", "pid": pid, "tid": 0, "ts": ts,
                   "args": {"MiB": round(value, 3)}}  # fmt: skip
    for mark in found.memory.marks:
        ts = round(zero + mark.second * SECOND, 3)
        yield {"ph": "i", "name": mark.name, "pid": pid, "tid": MARKS, "ts": ts, "s": "p"}


@dataclass
class Piece:
    """A span as it is drawn.

    Attributes:
        depth: how many others it lies in: a node of a subgraph lies in the node that runs it.
    """

    span: Span
    end_us: float
    depth: int = 0


def in_turn(spans: Sequence[Span]) -> list[Piece]:
    """Return spans in the order they began, each apart from the others or inside one.

    onnxruntime runs one node at a time and writes whole microseconds: a node may seem to begin
    before the last one ended. The last one is cut there.
    """
    ordered = sorted(spans, key=lambda span: (span.start_us, -span.duration_us))
    pieces = [Piece(span, span.start_us + span.duration_us) for span in ordered]
    around: list[Piece] = []
    for piece in pieces:
        begin = piece.span.start_us
        while around and (around[-1].end_us <= begin or around[-1].end_us < piece.end_us):
            around[-1].end_us = min(around[-1].end_us, begin)
            around.pop()
        piece.depth = len(around)
        around.append(piece)
    return pieces


def _end_us(spans: Sequence[Span], begin: float) -> float:
    return max((begin + span.start_us + span.duration_us for span in spans), default=begin)


def _run(spans: Sequence[Span], shape: str, begin: float, pid: int) -> Iterator[Event]:
    """Yield one run twice: layers with their nodes inside, and operators alone."""
    pieces = in_turn(spans)
    end = begin + max(piece.end_us for piece in pieces)
    for tid in (LAYERS, OPERATORS):
        yield _slice(f"run {shape}, under the profiler", begin, end, pid, tid, cat="run")
    for (layer, _), members in groupby(pieces, key=lambda piece: (piece.span.layer, piece.depth)):
        inside = list(members)
        last = begin + max(piece.end_us for piece in inside)
        yield _slice(layer, begin + inside[0].span.start_us, last, pid, LAYERS, cat="layer")
        for piece in inside:
            span = piece.span
            args = {"operator": span.operator, "layer": span.layer, "node": span.name}
            ends = (begin + span.start_us, begin + piece.end_us)
            yield _slice(span.name, *ends, pid, LAYERS, cat="node", args=args)
            yield _slice(span.operator, *ends, pid, OPERATORS, cat="operator", args=args)
