"""Memory of the current process: what is resident now, at most, and along the way."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROC = Path("/proc/self")
# Between runs one sample each 0.1 s, of RSS alone: 15 us. PSS takes a walk over the page tables
# (0.5 ms for 90 MiB) and is read at marks.
BETWEEN_RUNS_S = 0.1
WHILE_LOADING_S = 0.01


def rss_mib() -> float:
    """Return what is resident now."""
    if sys.platform == "linux":
        pages = int((PROC / "statm").read_text(encoding="ascii").split()[1])
        return pages * _page_bytes() / 2**20
    return float(_elsewhere().rss) / 2**20


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()


def _elsewhere() -> Any:
    """Ask psutil, which Linux does without; the base install brings it."""
    import psutil

    return psutil.Process().memory_info()


def peak_rss_mib() -> float:
    """Return the most that was ever resident.

    Linux reads VmHWM: getrusage's ru_maxrss survives exec, so a child would report the peak of
    the process that started it.
    """
    if sys.platform == "linux":
        return _status().get("VmHWM", rss_mib())
    if sys.platform == "win32":
        return float(_elsewhere().peak_wset) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def _status() -> dict[str, float]:
    """Return the MiB that Linux counts of this process, by the names it gives them."""
    text = (PROC / "status").read_text(encoding="utf-8")
    return {k: int(v) / 1024 for k, v in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def pss_mib() -> float | None:
    """Return what is resident, shared pages by their share; None where it is not told."""
    try:
        text = (PROC / "smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


@dataclass(frozen=True)
class Split:
    """Resident memory by where it comes from.

    Attributes:
        anonymous_mib: of no file: heap, onnxruntime's arena.
        file_mib: pages of files: libraries' code, mapped weights.
    """

    anonymous_mib: float
    file_mib: float


def split() -> Split | None:
    """Return resident memory by kind; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    status = _status()
    if "RssAnon" not in status:
        return None
    return Split(status["RssAnon"], status["RssFile"] + status.get("RssShmem", 0.0))


def mapped_mib(folder: Path) -> float:
    """Return what is resident of the files below a folder that are mapped into this process."""
    total_kib, inside = 0, False
    prefix = f"{folder.resolve()}/"
    with (PROC / "smaps").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            head = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)", line)
            if head:
                inside = head[1].startswith(prefix)
            elif inside and line.startswith("Rss:"):
                total_kib += int(line.split()[1])
    return total_kib / 1024


@dataclass
class Timeline:
    """RSS and PSS over time, and the moments that have a name.

    Samples are taken by a thread only while no latency is measured; then between runs.
    """

    samples: list[tuple[float, float, float | None]] = field(default_factory=list)
    marks: list[tuple[str, float]] = field(default_factory=list)
    _start: float = field(default_factory=time.perf_counter)
    _last: float = -1.0

    def sample(self, with_pss: bool = False) -> float:
        """Take one sample; return its second."""
        second = self._last = time.perf_counter() - self._start
        self.samples.append((second, rss_mib(), pss_mib() if with_pss else None))
        return second

    def mark(self, name: str) -> None:
        """Give this moment a name, and sample it."""
        self.marks.append((name, self.sample(with_pss=True)))

    def between_runs(self) -> None:
        """Take a sample if the last one is old enough."""
        if time.perf_counter() - self._start - self._last >= BETWEEN_RUNS_S:
            self.sample()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Sample from a thread while the block runs."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(WHILE_LOADING_S):
                self.sample()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def as_dict(self) -> dict[str, Any]:
        """Return the samples (second, RSS, PSS) and marks (name, second) for JSON."""
        return {
            "samples": [list(sample) for sample in sorted(self.samples, key=lambda s: s[0])],
            "marks": [list(mark) for mark in self.marks],
        }
