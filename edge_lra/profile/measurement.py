"""What was measured of one bundle on the host where it ran: numbers taken there, none computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_lra.profile.latencies import STEP, Decoding, Shape, Timing, name_run


@dataclass(frozen=True)
class Start:
    """How long it takes until results come.

    Attributes:
        cold_s: from the start of a new process to its first result; None where it was not taken.
        imports_s: of that, loading Python's packages.
        load_s: opening the bundle.
        first_run_ms: the first run after it, of the first shape.
    """

    cold_s: float | None
    imports_s: float
    load_s: float
    first_run_ms: float


@dataclass(frozen=True)
class Sample:
    """Memory of the measuring process at one moment; seconds since its imports were done."""

    second: float
    rss_mib: float
    pss_mib: float | None


@dataclass(frozen=True)
class Mark:
    """A moment of the timeline, such as loaded, first run or steady."""

    name: str
    second: float


@dataclass(frozen=True)
class KeysAndValues:
    """The cache of one row of a language model.

    Attributes:
        context: tokens it holds.
        mib: what they fill.
        reserved_mib: what is set aside: room grows by doubling, and the system gives a page when
            it is first written to.
    """

    context: int
    mib: float
    reserved_mib: float


@dataclass(frozen=True)
class Memory:
    """Memory of a process that held one bundle alone and ran one shape, or one context.

    Attributes:
        shape: the one of all measured shapes whose process took most.
        peak_rss_mib: the most that was ever resident.
        steady_rss_mib: resident after the last run.
        model_rss_mib: the peak less what the process held once its imports were done.
        steady_pss_mib: shared pages counted by their share; None where the system does not say.
        samples, marks: the timeline.
        parts_mib: what the bundle's share consists of, by name: mapped weights, library code,
            prepacked copies, arena; what cannot be told apart is under "other". They sum to
            model_rss_mib.
        planned_activations_mib: the largest sum of live activations by the graph's shapes, of
            this shape; None where onnx is not installed.
        context: where it was a process that generated: tokens it had read; `shape` is then theirs.
        caches: keys and values by context, of a language model.
    """

    peak_rss_mib: float
    steady_rss_mib: float
    model_rss_mib: float
    steady_pss_mib: float | None = None
    samples: tuple[Sample, ...] = ()
    marks: tuple[Mark, ...] = ()
    parts_mib: Mapping[str, float] = field(default_factory=dict)
    planned_activations_mib: float | None = None
    shape: Shape | None = None
    context: int | None = None
    caches: tuple[KeysAndValues, ...] = ()


@dataclass(frozen=True)
class Operator:
    """The time of all nodes of one operator in one run, from onnxruntime's profiler."""

    name: str
    nodes: int
    mean_ms: float


@dataclass(frozen=True)
class Layer:
    """The time of one layer's nodes in one run: embeddings, layer 0, …, head."""

    name: str
    nodes: int
    mean_ms: float


@dataclass(frozen=True)
class Span:
    """One node of one profiled run, for the trace; microseconds since the run began."""

    name: str
    operator: str
    layer: str
    start_us: float
    duration_us: float


@dataclass(frozen=True)
class Step:
    """One run of a language model that gives one token, under onnxruntime's profiler.

    Attributes:
        context: tokens read before.
        operators: slowest first.
        layers: in the graph's order.
        spans: one step's nodes.
    """

    context: int
    operators: tuple[Operator, ...] = ()
    layers: tuple[Layer, ...] = ()
    spans: tuple[Span, ...] = ()

    @property
    def name(self) -> str:
        """Where the token was generated."""
        return name_run(STEP, self.context)


@dataclass(frozen=True)
class Threads:
    """The median of the first shape with so many threads, and of a token behind a context."""

    threads: int
    p50_ms: float
    decode_ms: float | None = None


@dataclass(frozen=True)
class Measurement:
    """One bundle on the host where it ran.

    Attributes:
        host: what was found there (transport.Host.as_dict).
        transport: how it was reached.
        operators: of the first shape, slowest first.
        layers: of the first shape, in the graph's order.
        switch_ms: choosing another adapter and running once, less a run without a switch;
            None where there is nothing to switch. Of a language model between adapters in memory.
        sweep: medians by threads; empty unless it was asked for.
        warnings: what makes the numbers doubtful, such as clocks that fell.
        complete: False when the target dropped before everything was taken.
        decoding: a language model's next token by context; its `timings` are of prompts.
        step: where the time of a token goes, at the first context; None for other models.
    """

    host: Mapping[str, Any]
    transport: str
    threads: int
    start: Start
    memory: Memory
    timings: tuple[Timing, ...]
    operators: tuple[Operator, ...] = ()
    layers: tuple[Layer, ...] = ()
    spans: tuple[Span, ...] = ()
    switch_ms: float | None = None
    sweep: tuple[Threads, ...] = ()
    warnings: tuple[str, ...] = ()
    complete: bool = True
    decoding: tuple[Decoding, ...] = ()
    step: Step | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {
            "timings": [timing.as_dict() for timing in self.timings],
            "decoding": [decoding.as_dict() for decoding in self.decoding],
        }
