"""The machine this runs on, as far as it tells: cores, clocks, features, memory."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import psutil

from edge_lra.device.model import Cluster, Figure

ARCHES = ("aarch64", "x86_64", "wasm32")
# How systems name an architecture, by Linux's name of it.
OTHER_NAMES = {"arm64": "aarch64", "amd64": "x86_64", "x64": "x86_64"}
CPUINFO = Path("/proc/cpuinfo")
CPUS = Path("/sys/devices/system/cpu")
# Arm's part numbers (Main ID Register) of cores that device files know.
PARTS = {
    0xD03: "Cortex-A53",
    0xD05: "Cortex-A55",
    0xD08: "Cortex-A72",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD40: "Neoverse-V1",
    0xD42: "Cortex-A78AE",
    0xD46: "Cortex-A510",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
}
ARM = "0x41"  # the implementer whose parts these are
# int8 and float32 MACs a cycle of a core that no file knows, by the first feature that it has.
RATES = {
    "x86_64": (
        ("avx512_vnni", 64, 16, "VPDPBUSD of 512 bits once a cycle, VFMADD likewise"),
        ("avx_vnni", 64, 16, "VPDPBUSD of 256 bits twice a cycle, VFMADD likewise"),
        ("avx2", 32, 16, "VPMADDUBSW, VPMADDWD and VPADDD for 32 MACs once a cycle, VFMADD twice"),
        ("", 8, 4, "PMADDWD of 8 MACs once a cycle, MULPS and ADDPS once a cycle"),
    ),
    "aarch64": (
        ("i8mm", 64, 8, "UMMLA of 32 MACs twice a cycle, FMLA likewise"),
        ("asimddp", 32, 8, "UDOT of 16 MACs twice a cycle, FMLA likewise"),
        ("", 5.33, 4, "SMULL, SMLAL and SADALP for 16 MACs, one of them a cycle, FMLA once"),
    ),
}
# What tells kernels apart: what else /proc/cpuinfo lists would only be noise.
TELLING = (
    *("fp", "asimd", "crc32", "atomics", "fphp", "asimdhp", "asimdrdm", "asimddp", "sve", "sve2"),
    *("i8mm", "bf16", "sme", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq"),
    *("avx512vl", "avx512_vnni", "avx_vnni", "amx_int8"),
)
# Where there is no /proc/cpuinfo: the system's own names of the same.
MAC_FEATURES = {
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
}
WINDOWS_FEATURES = {40: "avx2", 41: "avx512f", 43: "asimddp"}  # IsProcessorFeaturePresent


def normal_arch(name: str) -> str:
    """Return Linux's name of an architecture."""
    return OTHER_NAMES.get(name.lower(), name.lower())


def this_arch() -> str:
    """Return this machine's architecture, as Linux names it."""
    return normal_arch(platform.machine())


def this_system() -> str:
    """Return the name of this machine's system."""
    return {"Darwin": "macOS"}.get(platform.system(), platform.system()) or "unknown"


def this_ram_mib() -> int:
    """Return all memory of this machine, in MiB."""
    return int(psutil.virtual_memory().total / 2**20)


def find_clusters(known: Mapping[str, Cluster]) -> tuple[Cluster, ...]:
    """Return this machine's cores, the fastest first; nothing where it tells no clock.

    Rates are those of a known cluster with the same core, else they follow from the features.
    Cores that share a name and a clock are one cluster, threads of one core are one.
    """
    blocks = _processors()
    features = _features(blocks)
    counted: Counter[tuple[str, float]] = Counter()
    for core, clock_ghz in _cores(blocks):
        if clock_ghz is None:
            return ()
        counted[core, clock_ghz] += 1
    threads = _threads_per_core()
    clusters = [
        _cluster(core, max(1, count // threads), clock_ghz, features, known)
        for (core, clock_ghz), count in counted.items()
    ]
    return tuple(sorted(clusters, key=_speed, reverse=True))


def rates(arch: str, features: tuple[str, ...]) -> tuple[Figure, Figure]:
    """Return int8 and float32 MACs a cycle of a core by its features; derived, not measured."""
    # onnxruntime's kernels for i8mm are compiled for Linux and Android alone.
    usable = {*features} - ({"i8mm"} if this_system() != "Linux" else set()) | {""}
    rows = RATES.get(arch, RATES["x86_64"])
    feature, int8, fp32, why = next(row for row in rows if row[0] in usable)
    source = f"derived from {feature or 'no known feature'}: {why}"
    return Figure(float(int8), source), Figure(float(fp32), source)


def _cluster(
    core: str, cores: int, clock_ghz: float, features: tuple[str, ...], known: Mapping[str, Cluster]
) -> Cluster:
    if core in known:
        same = known[core]
        int8, fp32 = same.int8_macs_per_cycle, same.fp32_macs_per_cycle
    else:
        int8, fp32 = rates(this_arch(), features)
    return Cluster(core, cores, clock_ghz, features, int8, fp32)


def _speed(cluster: Cluster) -> float:
    return cluster.clock_ghz * cluster.int8_macs_per_cycle.value


def _processors() -> list[dict[str, str]]:
    """Return the keys of each logical processor in /proc/cpuinfo; none where there is no such."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    blocks = []
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
        values = {key.strip(): value.strip() for key, _, value in pairs}
        if "processor" in values:
            blocks.append(values)
    return blocks


def _cores(blocks: list[dict[str, str]]) -> list[tuple[str, float | None]]:
    """Return name and clock in GHz of each logical processor."""
    if blocks:
        return [(_core_name(block), _clock_ghz(block)) for block in blocks]
    name = _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()
    return [(name, _psutil_ghz())] * (psutil.cpu_count() or 1)


def _core_name(block: Mapping[str, str]) -> str:
    try:
        part = int(block.get("CPU part", ""), 16)
    except ValueError:
        return block.get("model name") or platform.machine()
    known = PARTS.get(part) if block.get("CPU implementer") == ARM else None
    return known or f"part 0x{part:x} of implementer {block.get('CPU implementer', 'unknown')}"


def _clock_ghz(block: Mapping[str, str]) -> float | None:
    """Return the highest clock that a processor can have, else the one it has now."""
    file = CPUS / f"cpu{block['processor']}" / "cpufreq" / "cpuinfo_max_freq"
    try:
        return round(int(file.read_text()) / 1e6, 2)
    except (OSError, ValueError):
        pass
    try:
        # Clocks that are not governed here drift by some MHz from one processor to the next.
        return round(float(block["cpu MHz"]) / 1e3, 1) or None
    except (KeyError, ValueError):
        return _psutil_ghz()


def _psutil_ghz() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, RuntimeError, NotImplementedError, AttributeError):  # by platform
        return None
    mhz = (frequency.max or frequency.current) if frequency else 0
    return round(mhz / 1e3, 2) or None


def _threads_per_core() -> int:
    logical, physical = psutil.cpu_count() or 1, psutil.cpu_count(logical=False)
    return max(1, logical // physical) if physical else 1


def _features(blocks: list[dict[str, str]]) -> tuple[str, ...]:
    """Return the telling features that all processors share."""
    if blocks:
        each = [set(b.get("flags", b.get("Features", "")).split()) for b in blocks]
        shared = set.intersection(*each)
    elif platform.system() == "Darwin":
        shared = {feature for name, feature in MAC_FEATURES.items() if _sysctl(name) == "1"}
    elif platform.system() == "Windows":
        shared = _windows_features()
    else:
        shared = set()
    return tuple(feature for feature in TELLING if feature in shared)


def _windows_features() -> set[str]:
    import ctypes

    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - there on Windows alone
    return {
        name for code, name in WINDOWS_FEATURES.items() if kernel.IsProcessorFeaturePresent(code)
    }


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, check=False, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
