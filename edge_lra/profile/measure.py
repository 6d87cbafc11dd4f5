"""Measure bundles where they run: requests to the agent there, answers to a Measurement."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.profile.activations import planned_peak_mib
from edge_lra.profile.bundles import (
    check_adapter,
    check_bundle,
    default_contexts,
    default_shapes,
    describe_bundle,
)
from edge_lra.profile.compare import compare_on
from edge_lra.profile.doubts import doubts
from edge_lra.profile.latencies import STEP, Shape, decoding_of, timings_of
from edge_lra.profile.measurement import (
    KeysAndValues,
    Layer,
    Measurement,
    Memory,
    Operator,
    Span,
    Start,
    Step,
    Threads,
)
from edge_lra.profile.memory import as_the_system_saw, read_memory
from edge_lra.profile.plan import BUDGET_S, WARMUP, Plan, Session
from edge_lra.profile.result import Profile, Ratio
from edge_lra.transport.base import Host, Transport
from edge_lra.transport.local import Local

RUNS_ALONE = 20  # of bundles whose latencies are taken in turns: enough for steady memory


def measure(
    bundle: str | Path,
    shapes: Sequence[Shape] | None = None,
    threads: int = 1,
    runs: int | None = None,
    budget_s: float = BUDGET_S,
    warmup: int = WARMUP,
    against: str | Path | None = None,
    adapter: str | None = None,
    transport: Transport | None = None,
    sweep: Sequence[int] = (),
    progress: Callable[[str], None] = lambda stage: None,
    contexts: Sequence[int] | None = None,
) -> Profile:
    """Measure latency, starting, memory, operators and layers of a bundle.

    A language model's latencies are of prompts of the shapes, and of its next token behind each
    context.

    Args:
        bundle: the bundle's folder.
        shapes: (batch, tokens) to run; None for one text of 128 tokens, or of as many as fit.
        threads: threads within an operator.
        runs: timed runs a shape; None for as many as it takes until the 95 % interval of the
            median lies within 1 % of it.
        budget_s: for the timed runs of all shapes and contexts, where runs is None.
        warmup: runs before them, not counted.
        against: another bundle, run in turns with the first in one process; loading and memory
            of each are taken in a process of its own.
        adapter: of a factored bundle; None for its default, or the first.
        transport: the way to the device; None for this machine.
        sweep: numbers of threads to try with the first shape.
        progress: called with the name of each stage as it begins.
        contexts: tokens that a language model reads before its next ones are timed; None for 128,
            or for as many as fit.

    Raises:
        EdgeError: a bundle is missing or damaged, or a number makes no sense.
    """
    paths = [Path(bundle), *([Path(against)] if against is not None else [])]
    plan = Plan(
        tuple(default_shapes(paths) if shapes is None else shapes),
        threads,
        runs,
        budget_s,
        warmup,
        adapter,
        tuple(sweep),
        tuple(default_contexts(paths) if contexts is None else contexts),
    )
    check_adapter(paths, adapter)
    for path in paths:
        check_bundle(path, plan.shapes, plan.contexts)
    way = transport or Local()
    try:
        host = way.probe()
        found, ratios = _measure_pushed(way, paths, plan, host, progress)
    finally:
        if transport is None:
            way.clean_up()
    device = "host" if transport is None else way.target
    entries = tuple(
        describe_bundle(path, adapter, device, host.cpu, one)
        for path, one in zip(paths, found, strict=True)
    )
    return Profile(entries, ratios, tool_versions())


def tool_versions() -> dict[str, str]:
    """Return the versions here of the packages that write a profile."""
    return {name: version(name) for name in ("edge-lra", "onnxruntime", "numpy")}


def _measure_pushed(
    way: Transport,
    paths: Sequence[Path],
    plan: Plan,
    host: Host,
    progress: Callable[[str], None],
) -> tuple[list[Measurement], tuple[Ratio, ...]]:
    """Push and measure one bundle, or two and then both in turns."""
    places = [way.push(path) for path in paths]
    alone = plan if len(paths) == 1 else plan.shortened(RUNS_ALONE)
    found = [
        measure_on(way, place, alone, host, path, progress, timed=len(paths) == 1)
        for place, path in zip(places, paths, strict=True)
    ]
    if len(paths) == 1:
        return found, ()
    both = compare_on(way, (places[0], places[1]), plan)
    return both.add_to(found), both.ratios


def measure_on(
    transport: Transport,
    place: str,
    plan: Plan,
    host: Host | None = None,
    bundle: Path | None = None,
    progress: Callable[[str], None] = lambda stage: None,
    timed: bool = True,
) -> Measurement:
    """Measure one bundle that is on the device already; speaks through `transport.run` alone.

    Each shape runs in a process of its own, so that a target that drops takes one shape with it.
    What was taken until then is kept: `complete` is False, and `warnings` say what is missing.

    Args:
        transport: the way there.
        place: the bundle's place there, from `transport.push`.
        plan: what to run.
        host: what `transport.probe` found; None to ask.
        bundle: the same bundle here, for the planned activations; None to leave them out.
        progress: called with the name of each stage as it begins.
        timed: whether the latencies are kept; if not, nobody is told what makes them doubtful.

    Raises:
        EdgeError: not even the first shape could be measured, or the transport keeps no time.
    """
    if not transport.keeps_time:
        raise EdgeError(
            f"{transport.target}: found an emulator, expected a device: its time and memory are "
            "not the device's own; give a --target"
        )
    host = host or transport.probe()
    check_threads(plan, host, transport.target)
    session = Session(transport, progress)
    found = _run_parts(session, place, plan)
    first = plan.shapes[0]
    start = _read_start(session.ask("cold start", plan.request("cold", [place], first)), found[0])
    nodes = session.ask("operators", plan.request("operators", [place], first)) or {}
    step = _read_step(session, place, plan)
    memory = _read_memory(session, place, plan, found)
    sweep = _sweep(session, place, plan)
    taken = [answer["part"].take(answer["latencies_ms"][0]) for answer in found]
    for one, answer in zip(taken, found, strict=True) if timed else ():
        session.warnings += doubts(one, answer, plan.runs is None)
    if bundle is not None and memory.shape is not None:
        planned = planned_peak_mib(bundle, memory.shape, plan.adapter)
        memory = replace(memory, planned_activations_mib=planned)
    return Measurement(
        host=host.as_dict(),
        transport=transport.name,
        threads=plan.threads,
        start=start,
        memory=memory,
        timings=timings_of(taken),
        **_read_nodes(nodes),
        switch_ms=next((a["switch_ms"] for a in found if a["switch_ms"] is not None), None),
        sweep=sweep,
        warnings=tuple(session.warnings),
        complete=session.complete,
        decoding=decoding_of(taken),
        step=step,
    )


def _read_nodes(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer to "operators" as the fields of a result."""
    return {
        "operators": tuple(Operator(**row) for row in nodes.get("operators", ())),
        "layers": tuple(Layer(**row) for row in nodes.get("layers", ())),
        "spans": tuple(Span(**row) for row in nodes.get("spans", ())),
    }


def _read_step(session: Session, place: str, plan: Plan) -> Step | None:
    """Return where the time of a token goes, at the first context."""
    context = plan.first_context
    if context is None:
        return None
    request = plan.request("operators", [place], STEP, context)
    nodes = session.ask("operators of a token", request)
    return None if nodes is None else Step(context, **_read_nodes(nodes))


def check_threads(plan: Plan, host: Host, target: str) -> None:
    """Refuse more threads than cores: they would wait for each other.

    Raises:
        EdgeError: names the number.
    """
    for name, threads in (("threads", plan.threads), *(("sweep", n) for n in plan.sweep)):
        if threads > host.cores:
            raise EdgeError(
                f"--{name}: found {threads}, expected at most the {host.cores} cores of {target}"
            )


def _run_parts(session: Session, place: str, plan: Plan) -> list[dict[str, Any]]:
    """Return the answers of the parts that could be measured; the first has to be.

    The switch of adapters is timed with the first part, of a language model with its first token.
    """
    found = []
    switched = len(plan.shapes) if plan.contexts else 0
    for index, part in enumerate(plan.parts):
        request = plan.request("measure", [place], part.shape, part.context)
        request["switch"] = index == switched
        if index == 0:
            session.progress(part.name)
            answer: dict[str, Any] | None = session.transport.run(request)
        else:
            answer = session.ask(part.name, request)
        if answer is not None:
            found.append(answer | {"part": part})
    return found


def _read_start(cold: Mapping[str, Any] | None, warm: Mapping[str, Any]) -> Start:
    """Return the medians of the new processes; without them, what the measuring one took."""
    if cold is None:
        return Start(None, warm["imports_s"], warm["load_s"], warm["first_run_ms"])
    names = ("cold_s", "imports_s", "load_s", "first_run_ms")
    return Start(**{name: statistics.median(cold[name]) for name in names})


def _read_memory(
    session: Session, place: str, plan: Plan, found: Sequence[Mapping[str, Any]]
) -> Memory:
    """Return the memory of the part that took most, with its parts."""
    unpacked = session.ask("memory by part", plan.request("unpacked", [place], plan.shapes[0]))
    largest = max(found, key=lambda answer: float(answer["memory"]["peak_rss_mib"]))
    unpacked_mib = (unpacked or {}).get("anonymous_mib")
    cache_mib = (largest.get("cache") or {}).get("bytes", 0) / 2**20
    memory, doubt = read_memory(largest["memory"], unpacked_mib, cache_mib)
    session.warnings += doubt
    memory = as_the_system_saw(memory, largest.get("process_mib"))
    part = largest["part"]
    shape = part.shape if part.context is None else (1, part.context)
    return replace(memory, shape=shape, context=part.context, caches=_read_caches(found))


def _read_caches(found: Sequence[Mapping[str, Any]]) -> tuple[KeysAndValues, ...]:
    return tuple(
        KeysAndValues(
            answer["part"].context,
            answer["cache"]["bytes"] / 2**20,
            answer["cache"]["reserved_bytes"] / 2**20,
        )
        for answer in found
        if answer["part"].context is not None and answer.get("cache")
    )


def _sweep(session: Session, place: str, plan: Plan) -> tuple[Threads, ...]:
    if not plan.sweep:
        return ()
    # The threads of the latencies above come first: they are what others are compared with.
    plan = replace(plan, sweep=(plan.threads, *(n for n in plan.sweep if n != plan.threads)))
    request = plan.request("sweep", [place], plan.shapes[0], plan.first_context)
    answer = session.ask("threads", request | {"sweep": list(plan.sweep)}) or {"p50_ms": ()}
    tokens_ms = answer.get("decode_ms") or [None] * len(answer["p50_ms"])
    rows = zip(plan.sweep, answer["p50_ms"], tokens_ms, strict=False)
    return tuple(Threads(*row) for row in rows)
