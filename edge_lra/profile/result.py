"""What a profile holds: for each bundle on each device what was measured, executed or estimated.

The three never share a field: a number in `Measurement` was taken on the host it names, one in
`Emulation` says nothing about time, and one in `Estimate` was computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_lra.profile.latencies import Interval, Shape, name_run
from edge_lra.profile.measurement import Measurement

SCHEMA_VERSION = 1


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
