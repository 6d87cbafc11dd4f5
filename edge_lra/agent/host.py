"""Answer "probe": the facts of transport.Host, with Python's library alone.

Request: folder (where bundles are put; the temporary folder otherwise).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edge_lra import __version__

ROOT = Path("/")
# CPU implementer and part of /proc/cpuinfo, as in Linux's arch/arm64/include/asm/cputype.h.
ARM_CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
}


def probe(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what this machine is."""
    ram_mib, free_mib = _memory(ROOT)
    folder = request.get("folder") or tempfile.gettempdir()
    disk_mib = None
    with suppress(OSError):
        disk_mib = shutil.disk_usage(folder).free / 2**20
    return {
        "arch": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": processor(),
        "cores": _cores(),
        "features": cpu_features(_read(ROOT / "proc/cpuinfo")),
        "ram_mib": ram_mib,
        "free_mib": free_mib,
        "free_disk_mib": disk_mib,
        "versions": _versions(),
    }


def processor() -> str:
    """Return this machine's processor by name."""
    return cpu_name(_read(ROOT / "proc/cpuinfo"), _read(ROOT / "proc/device-tree/model"))


def _read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    return ""


def _cores() -> int:
    """Count the logical cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name(info: str, board: str) -> str:
    """Return the processor's name from /proc/cpuinfo and the device tree's model.

    ARM names no model there: the cores follow from implementer and part, the largest group last
    in a tie, and the board's name says the rest.
    """
    names = re.findall(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    parts = re.findall(
        r"^CPU implementer\s*:\s*(\w+)$.*?^CPU part\s*:\s*(\w+)$", info, re.MULTILINE | re.DOTALL
    )
    if parts:
        counts = Counter((int(maker, 16), int(part, 16)) for maker, part in parts)
        cores = " + ".join(
            f"{count}x {ARM_CORES.get(core, f'ARM core {core[0]:#x}/{core[1]:#x}')}"
            for core, count in sorted(counts.items(), key=lambda item: item[1])
        )
        return f"{board} ({cores})" if board else cores
    return (names[0].strip() if names else "") or board or _fallback_name()


def _fallback_name() -> str:
    return platform.processor() or platform.machine()


def cpu_features(info: str) -> list[str]:
    """Return the instruction set's features of the first core, as Linux names them."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE)
    return found[1].split() if found else []


def _memory(root: Path) -> tuple[float | None, float | None]:
    """Return MiB in all and to be had, both cut to what the control group allows."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE))
    total, free = (
        int(fields[name]) / 1024 if name in fields else None
        for name in ("MemTotal", "MemAvailable")
    )
    limit, used = _group_limit(root)
    if limit is None or (total is not None and limit >= total):
        return total, free
    left = max(0.0, limit - used)
    return limit, left if free is None else min(free, left)


def _group_limit(root: Path) -> tuple[float | None, float]:
    """Return the tightest memory limit of this process's control groups, and what is used of it.

    Version 2 lists one group, "0::/path"; version 1 one a controller.
    """
    found: list[tuple[float, float]] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit_name, used_name = names if controllers else ("memory.max", "memory.current")
        group = base / path.strip("/")
        for folder in (group, *group.parents):
            limit = _read(folder / limit_name)
            if limit.isdigit():
                used = _read(folder / used_name)
                found.append((int(limit) / 2**20, int(used or 0) / 2**20))
            if folder == base:
                break
    return min(found, key=lambda pair: pair[0] - pair[1]) if found else (None, 0.0)


def _versions() -> dict[str, str]:
    """Return the versions of what is there; what is missing is left out."""
    found = {"python": platform.python_version(), "edge-lra": __version__}
    for name in ("onnxruntime", "numpy", "safetensors"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
