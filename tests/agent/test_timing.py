"""Turns, and how many runs are taken."""

from __future__ import annotations

import gc
import time
from typing import Any

import numpy as np
import pytest

from edge_lra.agent import timing
from edge_lra.agent.timing import LEAST_IN_BUDGET, LEAST_RUNS, Plan, interval_width, time_in_turns
from edge_lra.profile.latencies import Timing


def idle() -> None:
    pass


def latencies_of(monkeypatch: pytest.MonkeyPatch, values: Any, plan: Plan) -> list[float]:
    source = iter(values)
    monkeypatch.setattr(timing, "timed_run", lambda run: float(next(source)))
    return time_in_turns([idle], plan)[0]


def test_bundles_take_turns_and_the_first_place_alternates() -> None:
    ran: list[str] = []
    found = time_in_turns(
        [lambda: ran.append("a"), lambda: ran.append("b")],
        Plan(3, 1.0, 1),
        steady=lambda: ran.append("|"),
        between=lambda: ran.append("."),
    )
    assert "".join(ran) == "ab.|" + "ab." + "ba." + "ab."
    assert [len(row) for row in found] == [3, 3]


def test_a_number_of_runs_is_honoured_whatever_the_budget() -> None:
    assert len(time_in_turns([idle], Plan(7, 0.0, 0))[0]) == 7


def test_steady_latencies_end_at_the_least_number(monkeypatch: pytest.MonkeyPatch) -> None:
    values = 10 + 0.01 * np.random.default_rng(0).standard_normal(10_000)
    assert len(latencies_of(monkeypatch, values, Plan(None, 60.0, 0))) == LEAST_RUNS


def test_scattered_latencies_take_more_runs_until_the_median_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = 10 + 0.6 * np.random.default_rng(0).standard_normal(10_000)
    found = latencies_of(monkeypatch, values, Plan(None, 60.0, 0))
    assert 2 * LEAST_RUNS < len(found) < 2000
    low, high = Timing((1, 8), tuple(found)).interval_ms(50)
    assert (high - low) / 10 < 0.025


def test_the_budget_ends_what_the_median_would_go_on_with() -> None:
    def slow() -> None:
        time.sleep(0.01)

    assert len(time_in_turns([slow], Plan(None, 0.0, 0))[0]) == LEAST_IN_BUDGET
    assert LEAST_IN_BUDGET <= len(time_in_turns([slow], Plan(None, 0.2, 0))[0]) <= 21


def test_the_interval_is_the_one_that_resampling_finds() -> None:
    random, ratios = np.random.default_rng(1), []
    for _ in range(40):
        values = random.lognormal(2, 0.2, 200)
        low, high = Timing((1, 8), tuple(values)).interval_ms(50)
        ratios.append(interval_width(list(values)) / ((high - low) / np.median(values)))
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


def test_the_collector_is_off_while_timed_and_on_after() -> None:
    states: list[bool] = []
    time_in_turns([lambda: states.append(gc.isenabled())], Plan(2, 1.0, 1))
    assert states == [False] * 3 and gc.isenabled()
