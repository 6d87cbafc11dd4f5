"""What makes numbers doubtful is said, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_lra.profile.compare import compare
from edge_lra.profile.doubts import clock_changes, doubts, slow_down
from edge_lra.profile.latencies import Timing

STEADY = 10 + 0.2 * np.random.default_rng(0).standard_normal(90)
COOL: dict[str, Any] = {"clocks_mhz": {"cpu0": 1800.0}, "celsius": {"zone": 50.0}, "throttled": 0}


def series(values: Any) -> Timing:
    return Timing((1, 128), tuple(float(value) for value in values))


def test_runs_that_slow_down_are_told_and_by_how_much() -> None:
    assert slow_down(series(STEADY * np.linspace(1, 1.2, 90)).latencies_ms) == pytest.approx(
        1.13, abs=0.03
    )


@pytest.mark.parametrize(
    "values",
    [
        STEADY,
        STEADY * np.linspace(1.2, 1, 90),  # it became faster
        STEADY * np.linspace(1, 1.01, 90),  # by less than anyone minds
        np.where(np.arange(90) > 85, 100, STEADY),  # a few outliers
        np.linspace(1, 2, 9),  # too few to tell
    ],
)
def test_steady_runs_are_not_called_slow(values: Any) -> None:
    assert slow_down(tuple(map(float, values))) is None


def test_false_alarms_are_rare() -> None:
    random = np.random.default_rng(3)
    alarms = sum(slow_down(tuple(random.lognormal(2, 0.2, 60))) is not None for _ in range(1000))
    assert alarms <= 4


def test_a_clock_that_fell_is_told_with_the_temperature() -> None:
    hot = {"clocks_mhz": {"cpu0": 1000.0}, "celsius": {"zone": 84.2}, "throttled": 2}
    assert clock_changes(COOL, hot) == [
        "the fastest clock fell from 1800 to 1000 MHz",
        "the processor throttled itself 2 times",
        "zone is at 84 degrees Celsius",
    ]
    assert clock_changes(COOL, COOL | {"celsius": {"zone": 84.0}}) == []
    untold = {"clocks_mhz": {}, "celsius": {}, "throttled": 0}
    assert clock_changes(untold, untold) == []


def test_a_busy_machine_and_a_wide_interval_are_told() -> None:
    wide = series(np.random.default_rng(0).lognormal(2, 1, 20))
    found = doubts(wide, {"clocks": [COOL, COOL], "busy": 0.4}, chosen=True)
    assert [line.partition(":")[0] for line in found] == ["1x128", "1x128"]
    assert "other programs had the core for 60% of the time" in found[0]
    assert "after 20 runs, when the time budget was over" in found[1]
    assert doubts(wide, {"clocks": [COOL, COOL], "busy": 0.99}, chosen=False) == []
    assert doubts(series(STEADY), {"busy": None}, chosen=True) == []


def test_a_ratio_above_one_means_faster_and_lies_in_its_interval() -> None:
    ours, theirs = STEADY, 2 * STEADY[::-1]
    found = compare((1, 128), ours, theirs)
    assert found.ratio == pytest.approx(2, rel=0.01)
    assert 1.97 < found.interval[0] < found.ratio < found.interval[1] < 2.03


def test_what_a_round_has_in_common_does_not_widen_the_ratio() -> None:
    busy = np.random.default_rng(0).lognormal(0, 0.5, 200)
    together = compare((1, 8), busy, 1.1 * busy).interval
    assert together == (pytest.approx(1.1), pytest.approx(1.1))
