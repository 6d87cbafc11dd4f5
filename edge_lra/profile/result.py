"""What a profile holds: for each bundle on each device what was measured, executed or estimated.

The three never share a field: a number in `Measurement` was taken on the host it names, one in
`Emulation` says nothing about time, and one in `Estimate` was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edge_lra.errors import EdgeError, GateError

SCHEMA_VERSION = 1
PERCENTILES = (50, 90, 95, 99)
RESAMPLES = 1000
Shape = tuple[int, int]  # (batch, tokens)
Interval = tuple[float, float]  # of 95 %
STEP: Shape = (1, 1)  # of a run that gives one token


class Latencies:
    """Milliseconds of runs of one kind, in the order they were run."""

    latencies_ms: tuple[float, ...]

    @property
    def name(self) -> str:
        """What was run, such as 1x128."""
        raise NotImplementedError

    def percentile_ms(self, percent: float) -> float:
        """Return the latency that `percent` of the runs do not exceed, interpolated."""
        return float(np.percentile(self.latencies_ms, percent))

    def interval_ms(self, percent: float) -> Interval:
        """Return the 95 % interval of a percentile by the bootstrap (Efron, 1979)."""
        values = np.asarray(self.latencies_ms)
        picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
        low, high = np.percentile(np.percentile(values[picks], percent, axis=1), [2.5, 97.5])
        return float(low), float(high)

    def percentiles(self) -> dict[str, Any]:
        """Return the number of runs, percentiles and their intervals, for JSON."""
        quantiles = {f"p{p}_ms": self.percentile_ms(p) for p in PERCENTILES}
        intervals = {f"p{p}_interval_ms": list(self.interval_ms(p)) for p in PERCENTILES}
        return {"runs": len(self.latencies_ms)} | quantiles | intervals


@dataclass(frozen=True)
class Timing(Latencies):
    """Latencies of one shape."""

    shape: Shape
    latencies_ms: tuple[float, ...]

    @property
    def name(self) -> str:
        """The shape as `1x128`."""
        return name_run(self.shape)

    @property
    def texts_per_s(self) -> float:
        """Throughput of this batch size at the median."""
        return 1e3 * self.shape[0] / self.percentile_ms(50)

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the texts a second at the median."""
        return self.texts_per_s * self.shape[1]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return (
            {"shape": list(self.shape)}
            | self.percentiles()
            | {
                "texts_per_s": self.texts_per_s,
                "tokens_per_s": self.tokens_per_s,
                "latencies_ms": list(self.latencies_ms),
            }
        )


@dataclass(frozen=True)
class Decoding(Latencies):
    """Latencies of a language model's next token: a step of one row, and the choice.

    Attributes:
        context: how many tokens the model had read before.
    """

    context: int
    latencies_ms: tuple[float, ...]

    @property
    def name(self) -> str:
        """How long the context was."""
        return name_run(STEP, self.context)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second at the median."""
        return 1e3 / self.percentile_ms(50)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return (
            {"context": self.context}
            | self.percentiles()
            | {"tokens_per_s": self.tokens_per_s, "latencies_ms": list(self.latencies_ms)}
        )


def name_run(shape: Shape, context: int | None = None) -> str:
    """Return `1x128`; of a token, behind how many it was generated."""
    return f"{shape[0]}x{shape[1]}" if context is None else f"token after {context}"


def timings_of(taken: Iterable[Latencies]) -> tuple[Timing, ...]:
    """Return the latencies of shapes."""
    return tuple(one for one in taken if isinstance(one, Timing))


def decoding_of(taken: Iterable[Latencies]) -> tuple[Decoding, ...]:
    """Return the latencies of tokens."""
    return tuple(one for one in taken if isinstance(one, Decoding))


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


@dataclass(frozen=True)
class Emulation:
    """A bundle executed on an emulated core. Nothing here is a time.

    Attributes:
        cpu: the emulator's name of the core.
        emulator: its name and version.
        matmuls: integer products that were compared.
        matmuls_equal: of them, those whose every int32 is the exact one.
        unequal: the weights of the others, by name.
        cases: golden cases that were run; 0 where the bundle was exported without verification.
        max_abs_error: the largest distance from the outputs recorded at export.
        max_abs_error_float: the largest distance from the float model's.
        allowed_error_float: what was recorded at export, with the slack of `edge-lra verify`.
        decided: best labels that the float model chooses by more than the allowed error.
        agreed: of them, those that the bundle chose there too.
        kernels: those that onnxruntime chose, as far as they can be told.
        instructions: of one run by shape, such as 1x128; None where they were not counted.
        instructions_note: how they were counted, or why not.
        passed: whether every comparison holds.
    """

    host: Mapping[str, Any]
    cpu: str
    emulator: str
    matmuls: int
    matmuls_equal: int
    unequal: tuple[str, ...]
    cases: int
    max_abs_error: float
    max_abs_error_float: float
    allowed_error_float: float
    decided: int
    agreed: int
    kernels: tuple[str, ...]
    instructions: Mapping[str, int] | None
    instructions_note: str
    passed: bool


@dataclass(frozen=True)
class ShapeEstimate:
    """The computed latency of one shape: a range, and its parts by class of operator."""

    shape: Shape
    low_ms: float
    middle_ms: float
    high_ms: float
    classes_ms: Mapping[str, float]  # of the middle


@dataclass(frozen=True)
class Estimate:
    """What a bundle would cost by the device's data sheet.

    Attributes:
        shapes: latency by shape.
        load_s: a range; None where it cannot be computed.
        peak_rss_mib: a range, of the process.
        fits: whether the upper end fits in the device's memory; None where that is unknown.
        assumptions: what the numbers rest on, a sentence each.
        calibration_error: by class of operator and "total", the relative error of the same
            method against measurements on this machine; None without them.
    """

    threads: int
    shapes: tuple[ShapeEstimate, ...]
    load_s: Interval | None
    peak_rss_mib: Interval
    fits: bool | None
    assumptions: tuple[str, ...]
    calibration_error: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Entry:
    """One bundle on one device; at least one of the last three is there."""

    bundle: str
    adapter: str | None
    mode: str
    scheme: str
    file_bytes: Mapping[str, int]
    device: str
    device_title: str
    measured: Measurement | None = None
    emulated: Emulation | None = None
    estimated: Estimate | None = None

    @property
    def file_mib(self) -> float:
        """The size of all files of the bundle."""
        return sum(self.file_bytes.values()) / 2**20

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {
            "file_mib": self.file_mib,
            "measured": self.measured.as_dict() if self.measured else None,
        }


@dataclass(frozen=True)
class Ratio:
    """How a bundle's median compares with another's that ran in turns with it.

    Attributes:
        ratio: the other's over this one's: above 1, this one is faster.
        interval: of 95 %, by the bootstrap over rounds.
        context: of a token behind so many; the shape is then that of a step, 1x1.
    """

    shape: Shape
    ratio: float
    interval: Interval
    context: int | None = None

    @property
    def name(self) -> str:
        """What both ran."""
        return name_run(self.shape, self.context)


@dataclass(frozen=True)
class Profile:
    """Bundles on devices; with `--against`, the ratios of the first two entries."""

    entries: tuple[Entry, ...]
    ratios: tuple[Ratio, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the document of `edge-lra profile --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "entries": [entry.as_dict() for entry in self.entries],
            "ratios": [asdict(ratio) for ratio in self.ratios],
            "versions": dict(self.versions),
        }


def _slowest(percent: int) -> Callable[[Entry], float | None]:
    def value(entry: Entry) -> float | None:
        if entry.measured and entry.measured.timings:
            return max(timing.percentile_ms(percent) for timing in entry.measured.timings)
        if entry.estimated and percent == 50:
            return max(shape.high_ms for shape in entry.estimated.shapes)
        return None

    return value


def _start(name: str) -> Callable[[Entry], float | None]:
    return lambda entry: getattr(entry.measured.start, name) if entry.measured else None


def _peak(entry: Entry) -> float | None:
    if entry.measured:
        return entry.measured.memory.peak_rss_mib
    return entry.estimated.peak_rss_mib[1] if entry.estimated else None


def _model_rss(entry: Entry) -> float | None:
    return entry.measured.memory.model_rss_mib if entry.measured else None


def _slowest_token(entry: Entry) -> float | None:
    found = entry.measured.decoding if entry.measured else ()
    return max((decoding.percentile_ms(50) for decoding in found), default=None)


def _fewest_tokens(entry: Entry) -> float | None:
    slowest = _slowest_token(entry)
    return None if slowest is None else 1e3 / slowest


# Names that --limit and [limits] take. A latency is that of the slowest shape; where nothing was
# measured, p50 and peak RSS are the upper ends of the estimate. A token is that of the slowest
# context.
LIMITS: dict[str, Callable[[Entry], float | None]] = {
    **{f"p{percent}_ms": _slowest(percent) for percent in PERCENTILES},
    "decode_ms": _slowest_token,
    "tokens_per_s": _fewest_tokens,
    "cold_s": _start("cold_s"),
    "load_s": _start("load_s"),
    "first_run_ms": _start("first_run_ms"),
    "peak_rss_mib": _peak,
    "model_rss_mib": _model_rss,
    "file_mib": lambda entry: entry.file_mib,
}


FLOORS = ("tokens_per_s",)  # at least the limit; everything else at most
GENERATING = ("decode_ms", "tokens_per_s")  # of language models alone
# What is known without a measurement.
ESTIMATED_LIMITS = ("p50_ms", "peak_rss_mib", "file_mib")


def check_limits(entry: Entry, limits: Mapping[str, float]) -> None:
    """Hold a bundle on a device against limits.

    Raises:
        EdgeError: an unknown limit, or one on a number that this profile does not have.
        GateError: names every limit that is exceeded.
    """
    over, bound = [], "at most the limit"
    for name, limit in limits.items():
        if name not in LIMITS:
            raise EdgeError(f"limit: found {name!r}, expected one of {', '.join(LIMITS)}")
        value = LIMITS[name](entry)
        if value is None and entry.measured and name in GENERATING:
            raise EdgeError(
                f"limit {name}: found no token generated by {entry.bundle}, expected a language "
                "model, measured to the end"
            )
        if value is None:
            raise EdgeError(
                f"limit {name}: was not measured on {entry.device_title}; give a --target, or "
                f"limit {', '.join(ESTIMATED_LIMITS)}"
            )
        if name in FLOORS and not value >= limit:
            over.append(f"{name} {value:.4g} (at least {limit:g})")
            bound = "what the limits allow"
        elif name not in FLOORS and not value <= limit:
            over.append(f"{name} {value:.4g} (limit {limit:g})")
    if over:
        kind = "found" if entry.measured else "estimated up to"
        raise GateError(
            f"{entry.bundle} on {entry.device_title}: {kind} {', '.join(over)}, expected {bound}"
        )
