"""Percentiles, intervals and limits."""

from __future__ import annotations

import numpy as np
import pytest

from edge_lra.errors import EdgeError, GateError
from edge_lra.profile.result import (
    Entry,
    Estimate,
    Measurement,
    Memory,
    ShapeEstimate,
    Start,
    Timing,
    check_limits,
)


def entry(*latencies_ms: float) -> Entry:
    timing = Timing((1, 128), latencies_ms)
    measured = Measurement(
        {}, "local", 1, Start(0.4, 0.3, 0.1, 9.0), Memory(90.0, 85.0, 40.0), (timing,)
    )
    return Entry("x.edge", None, "merge", "int8", {"a": 2**20}, "host", "CPU", measured)


def test_percentiles_interpolate() -> None:
    timing = Timing((1, 8), tuple(float(i) for i in range(101)))
    assert [timing.percentile_ms(p) for p in (50, 99)] == [50.0, 99.0]
    assert Timing((1, 8), (2.0, 1.0)).percentile_ms(50) == 1.5


def test_an_interval_covers_the_percentile_in_nineteen_of_twenty_samples() -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(200):
        low, high = Timing((1, 8), tuple(random.exponential(1, 60))).interval_ms(50)
        covered += low <= np.log(2) <= high
    assert 180 <= covered <= 198


def test_throughput_counts_the_texts_of_a_batch() -> None:
    assert Timing((8, 128), (40.0, 40.0)).texts_per_s == 200


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
