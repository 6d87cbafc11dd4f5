"""Percentiles, limits, ratios and the sum of profiler events."""

from __future__ import annotations

import pytest

from edge_lra.errors import GateError
from edge_lra.profile.operators import WARMUP, sum_by_operator
from edge_lra.profile.result import Measurement, Profile, Timing, check_limits


def measured(*latencies_ms: float) -> Measurement:
    timing = Timing((1, 128), latencies_ms)
    return Measurement("x.edge", None, (timing,), 0.1, 90.0, 40.0, {"model.onnx": 2**20})


def test_percentiles_interpolate() -> None:
    timing = Timing((1, 8), tuple(float(i) for i in range(101)))
    assert [timing.percentile_ms(p) for p in (50, 99)] == [50.0, 99.0]
    assert Timing((1, 8), (2.0, 1.0)).percentile_ms(50) == 1.5


def test_an_exceeded_limit_is_named() -> None:
    check_limits(measured(10.0), {"p50_ms": 10.0, "file_mib": 1})
    with pytest.raises(GateError, match=r"p50_ms 10 \(limit 9\)"):
        check_limits(measured(10.0), {"p50_ms": 9.0, "peak_rss_mib": 100})


def test_a_ratio_above_one_means_faster() -> None:
    profile = Profile(measured(10.0), 1, {}, against=measured(20.0))
    assert profile.to_json()["p50_ratios"] == {"1x128": 2.0}


def test_warm_up_events_are_left_out() -> None:
    events = []
    for run in range(WARMUP + 2):
        events.append({"name": "model_run", "ts": run * 100, "dur": 90})
        event = {"name": "a_kernel_time", "ts": run * 100 + 1, "args": {"op_name": "MatMul"}}
        events.append(event | {"dur": 5000 if run < WARMUP else 40})
    assert sum_by_operator(events) == [{"name": "MatMul", "nodes": 1, "mean_ms": 0.04}]
