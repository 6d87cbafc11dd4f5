"""What a profile holds. Everything in it was measured on the machine it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_lra.errors import EdgeError, GateError

SCHEMA_VERSION = 1
PERCENTILES = (50, 90, 95, 99)
Shape = tuple[int, int]  # (batch, tokens)


@dataclass(frozen=True)
class Timing:
    """Latencies of one shape, in the order they were run."""

    shape: Shape
    latencies_ms: tuple[float, ...]

    def percentile_ms(self, percent: float) -> float:
        """Return the latency that `percent` of the runs do not exceed, interpolated."""
        values = sorted(self.latencies_ms)
        place = (len(values) - 1) * percent / 100
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (place - low)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        quantiles = {f"p{p}_ms": self.percentile_ms(p) for p in PERCENTILES}
        return {"shape": list(self.shape), "runs": len(self.latencies_ms), **quantiles} | {
            "latencies_ms": list(self.latencies_ms)
        }


@dataclass(frozen=True)
class Operator:
    """The time of all nodes of one operator in one run, from onnxruntime's profiler."""

    name: str
    nodes: int
    mean_ms: float


@dataclass(frozen=True)
class Measurement:
    """One bundle: timings by shape, loading and memory of a process that held it alone.

    Attributes:
        model_rss_mib: the peak less what the process held once its imports were done.
        operators: of the first shape, slowest first.
    """

    bundle: str
    adapter: str | None
    timings: tuple[Timing, ...]
    load_s: float
    peak_rss_mib: float
    model_rss_mib: float
    file_bytes: Mapping[str, int]
    operators: tuple[Operator, ...] = ()

    @property
    def file_mib(self) -> float:
        """The size of all files of the bundle."""
        return sum(self.file_bytes.values()) / 2**20

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {
            "timings": [timing.as_dict() for timing in self.timings],
            "file_mib": self.file_mib,
        }


def _slowest(percent: int) -> Callable[[Measurement], float]:
    return lambda measured: max(timing.percentile_ms(percent) for timing in measured.timings)


# Names that --limit and [limits] take; a latency is that of the slowest shape.
LIMITS: dict[str, Callable[[Measurement], float]] = {
    **{f"p{percent}_ms": _slowest(percent) for percent in PERCENTILES},
    "load_s": lambda measured: measured.load_s,
    "peak_rss_mib": lambda measured: measured.peak_rss_mib,
    "model_rss_mib": lambda measured: measured.model_rss_mib,
    "file_mib": lambda measured: measured.file_mib,
}


@dataclass(frozen=True)
class Profile:
    """A bundle, perhaps another it ran in turns with, and the machine."""

    measured: Measurement
    threads: int
    machine: Mapping[str, Any]
    against: Measurement | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def ratios(self) -> dict[str, float]:
        """Return the other bundle's p50 over this one's by shape: above 1, this one is faster."""
        if self.against is None:
            return {}
        pairs = zip(self.measured.timings, self.against.timings, strict=True)
        return {
            f"{own.shape[0]}x{own.shape[1]}": other.percentile_ms(50) / own.percentile_ms(50)
            for own, other in pairs
        }

    def to_json(self) -> dict[str, Any]:
        """Return the document of `edge-lra profile --json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "measured": self.measured.as_dict(),
            "against": self.against.as_dict() if self.against else None,
            "p50_ratios": self.ratios(),
            "threads": self.threads,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
        }


def check_limits(measured: Measurement, limits: Mapping[str, float]) -> None:
    """Hold a measurement against limits.

    Raises:
        EdgeError: an unknown limit.
        GateError: names every limit that is exceeded.
    """
    over = []
    for name, limit in limits.items():
        if name not in LIMITS:
            raise EdgeError(f"limit: found {name!r}, expected one of {', '.join(LIMITS)}")
        value = LIMITS[name](measured)
        if not value <= limit:
            over.append(f"{name} {value:.4g} (limit {limit:g})")
    if over:
        raise GateError(f"{measured.bundle}: found {', '.join(over)}, expected at most the limit")
