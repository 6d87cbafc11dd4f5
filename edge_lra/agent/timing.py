"""Timed runs: bundles in turns, as many as the median needs, within a budget of time.

A run is onnxruntime's, with inputs that were checked before: what a runner in any language pays.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

LEAST_RUNS = 50  # for a p99 that is more than the maximum of a handful
LEAST_IN_BUDGET = 5  # whatever the budget: an interval needs some
WIDTH = 0.02  # the 95 % interval of the median, over the median: within 1 % to either side
# Workers of a session spin after its run and would take a core from the next one's.
PAUSE_S = 0.02


Run = Callable[[], object]


@dataclass(frozen=True)
class Plan:
    """How many runs to take.

    Attributes:
        runs: this many; None for as many as the median needs.
        budget_s: no new round after so long, where runs is None.
        warmup: rounds before, not counted.
        pause_s: sleep before each run.
    """

    runs: int | None
    budget_s: float
    warmup: int
    pause_s: float = 0.0


def timed_run(run: Run) -> float:
    """Run once; return milliseconds."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def time_in_turns(
    runs: Sequence[Run],
    plan: Plan,
    between: Callable[[], None] = lambda: None,
    steady: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """Run every bundle once a round, in alternating order, so that drift meets all alike.

    Args:
        runs: one a bundle.
        plan: how many rounds.
        between: called after each round, outside of what is timed.
        steady: called once the warm-up is over.

    Returns:
        Milliseconds of each run, in order, a list a bundle.
    """
    latencies: list[list[float]] = [[] for _ in runs]
    places = range(len(runs))
    with _no_garbage_collection():
        for _ in range(plan.warmup):
            for place in places:
                runs[place]()
            between()
        steady()
        start, checked = time.perf_counter(), 0
        while not _done(latencies, plan, time.perf_counter() - start, checked):
            rounds = len(latencies[0])
            if rounds >= _next_check(checked):
                checked = rounds
            for place in places if rounds % 2 == 0 else reversed(places):
                if plan.pause_s:
                    time.sleep(plan.pause_s)
                latencies[place].append(timed_run(runs[place]))
            between()
    return latencies


def _next_check(checked: int) -> int:
    """Return at how many runs the interval is looked at next: sorting takes time too."""
    return max(LEAST_RUNS, math.ceil(1.2 * checked))


def _done(latencies: list[list[float]], plan: Plan, elapsed_s: float, checked: int) -> bool:
    rounds = len(latencies[0])
    if plan.runs is not None:
        return rounds >= plan.runs
    if elapsed_s >= plan.budget_s and rounds >= LEAST_IN_BUDGET:
        return True
    if rounds < _next_check(checked):
        return False
    return all(interval_width(values) <= WIDTH for values in latencies)


def interval_width(values: Sequence[float]) -> float:
    """Return the width of the median's 95 % interval over the median.

    The bootstrap distribution of a median has a closed form: the chance that the resampled
    median is at most the k-th smallest value is binomial (Efron, 1979, section 3). Its normal
    limit gives ranks 1.96 sqrt(n)/2 to either side; no resampling between the runs.
    """
    ordered, count = sorted(values), len(values)
    middle, reach = (count - 1) / 2, 1.96 * math.sqrt(count) / 2
    low, high = max(0, round(middle - reach)), min(count - 1, round(middle + reach))
    return (ordered[high] - ordered[low]) / ordered[count // 2]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python's collector from falling into a run, as timeit does."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
