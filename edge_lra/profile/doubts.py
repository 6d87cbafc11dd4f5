"""What makes measured numbers doubtful: runs that slow down, clocks that fall, wide intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_lra.profile.latencies import Latencies

LEAST_RUNS = 15  # five a third
SLOWER = 1.03  # by less, nobody minds
DEVIATIONS = 3.3  # of the rank sum's normal limit: once in two thousand steady series
FELL = 0.95  # of the clock before
SHARED = 0.9  # of the time that the calling thread had a core; alone it has 0.98 and more
WIDE = 0.03  # half of the median's interval over the median


def doubts(timing: Latencies, answer: Mapping[str, Any], chosen: bool) -> list[str]:
    """Return a sentence a reason to doubt a shape's latencies.

    Args:
        timing: the latencies.
        answer: the agent's, of which clocks, busy and warnings are read.
        chosen: whether the number of runs was left to the profiler.
    """
    name = timing.name
    found = []
    slower = slow_down(timing.latencies_ms)
    if slower is not None:
        found.append(f"{name}: the last third of the runs took {slower - 1:.0%} longer than the "
                     "first: the device heats up, or something else runs there")  # fmt: skip
    if answer.get("clocks"):
        found += [f"{name}: {reason}" for reason in clock_changes(*answer["clocks"])]
    found += [f"{name}: {reason}" for reason in answer.get("warnings") or ()]
    busy = answer.get("busy")
    if busy is not None and busy < SHARED:
        found.append(f"{name}: other programs had the core for {1 - busy:.0%} of the time; "
                     "measure on an idle machine")  # fmt: skip
    low, high = timing.interval_ms(50)
    half = (high - low) / 2 / timing.percentile_ms(50)
    if chosen and half > WIDE:
        runs = len(timing.latencies_ms)
        found.append(f"{name}: the median is known to {half:.0%} after {runs} runs, when the time "
                     "budget was over")  # fmt: skip
    return found


def slow_down(latencies_ms: Sequence[float]) -> float | None:
    """Return the last third's median over the first's where the runs slow down, else None.

    The rank-sum test (Mann and Whitney, 1947) asks whether the last third is larger: single
    outliers do not move it.
    """
    if len(latencies_ms) < LEAST_RUNS:
        return None
    third = len(latencies_ms) // 3
    first, last = np.asarray(latencies_ms[:third]), np.asarray(latencies_ms[-third:])
    wins = float((last[:, None] > first).sum() + 0.5 * (last[:, None] == first).sum())
    deviation = math.sqrt(third * third * (2 * third + 1) / 12)
    ratio = float(np.median(last) / np.median(first))
    if (wins - third * third / 2) / deviation > DEVIATIONS and ratio > SLOWER:
        return ratio
    return None


def clock_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say which clocks fell and whether the device throttled; nothing where it does not tell."""
    found = []
    was, now = before["clocks_mhz"], after["clocks_mhz"]
    fell = {core: now[core] / mhz for core, mhz in was.items() if core in now and mhz > 0}
    if fell and max(now.values()) < FELL * max(was.values()):
        core = max(was, key=lambda name: float(was[name]))
        found.append(f"the fastest clock fell from {was[core]:.0f} to {max(now.values()):.0f} MHz")
    count = after["throttled"] - before["throttled"]
    if count > 0:
        found.append(f"the processor throttled itself {count} times")
    heat = after["celsius"]
    if found and heat:
        zone = max(heat, key=lambda name: float(heat[name]))
        found.append(f"{zone} is at {heat[zone]:.0f} degrees Celsius")
    return found
