"""Limits: what exceeds them is named, and what they cannot be held against."""

from __future__ import annotations

import pytest

from edge_lra.errors import EdgeError, GateError
from edge_lra.profile.latencies import Timing
from edge_lra.profile.limits import check_limits
from edge_lra.profile.measurement import Measurement, Memory, Start
from edge_lra.profile.result import Entry, Estimate, ShapeEstimate


def entry(*latencies_ms: float) -> Entry:
    timing = Timing((1, 128), latencies_ms)
    measured = Measurement(
        {}, "local", 1, Start(0.4, 0.3, 0.1, 9.0), Memory(90.0, 85.0, 40.0), (timing,)
    )
    return Entry("x.edge", None, "merge", "int8", {"a": 2**20}, "host", "CPU", measured)


def test_an_exceeded_limit_is_named() -> None:
    check_limits(entry(10.0), {"p50_ms": 10.0, "file_mib": 1, "cold_s": 0.4})
    with pytest.raises(GateError, match=r"found p50_ms 10 \(limit 9\)"):
        check_limits(entry(10.0), {"p50_ms": 9.0, "peak_rss_mib": 100})


def test_an_estimate_is_held_against_limits_by_its_upper_end_and_called_one() -> None:
    shape = ShapeEstimate((1, 128), 5.0, 7.0, 9.0, {})
    guess = Estimate(1, (shape,), None, (50.0, 80.0), True, ())
    found = Entry("x.edge", None, "merge", "int8", {}, "pi4", "Pi 4", estimated=guess)
    check_limits(found, {"p50_ms": 9.0, "peak_rss_mib": 80})
    with pytest.raises(GateError, match=r"x.edge on Pi 4: estimated up to p50_ms 9 \(limit 8\)"):
        check_limits(found, {"p50_ms": 8.0})
    with pytest.raises(EdgeError, match="limit cold_s: was not measured on Pi 4"):
        check_limits(found, {"cold_s": 1})
