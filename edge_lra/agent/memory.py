"""Resident memory of the current process."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil


def rss_mib() -> float:
    """Return what is resident now."""
    return float(psutil.Process().memory_info().rss) / 2**20


def peak_rss_mib() -> float:
    """Return the most that was ever resident.

    Linux reads VmHWM: getrusage's ru_maxrss survives exec, so a child would report the peak of
    the process that started it.
    """
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return rss_mib()
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
