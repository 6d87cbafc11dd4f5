"""Which clock to time with; clocks and temperatures, where the system tells them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def quiet_clock(threads: int) -> Callable[[], float]:
    """Return the clock, in seconds, that a busy machine disturbs least."""
    fine = time.get_clock_info("thread_time").resolution < 1e-5  # Windows counts 15 ms
    return time.thread_time if threads == 1 and fine else time.perf_counter


def read_clocks(root: Path = Path("/sys")) -> dict[str, Any]:
    """Return clocks in MHz by core, temperatures in degrees Celsius by zone, throttle events.

    Each is empty where the system does not say.
    """
    cores = sorted(root.glob("devices/system/cpu/cpu[0-9]*"))
    clocks = {core.name: _number(core / "cpufreq/scaling_cur_freq") for core in cores}
    events = [_number(core / "thermal_throttle/core_throttle_count") for core in cores]
    zones: dict[str, float] = {}
    for zone in sorted(root.glob("class/thermal/thermal_zone*")):
        degrees = _number(zone / "temp")
        if degrees is not None:
            zones[f"{zone.name} {_text(zone / 'type')}".strip()] = degrees / 1e3
    return {
        "clocks_mhz": {name: khz / 1e3 for name, khz in clocks.items() if khz is not None},
        "celsius": zones,
        "throttled": sum(int(count) for count in events if count is not None),
    }


def _text(file: Path) -> str:
    with suppress(OSError):  # some kernels list what they refuse to read
        return file.read_text(encoding="utf-8").strip()
    return ""


def _number(file: Path) -> float | None:
    with suppress(ValueError):
        return float(_text(file))
    return None
