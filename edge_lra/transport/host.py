"""What a target is, asked by a script that needs only a POSIX shell there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edge_lra.agent.host import cpu_features, cpu_name
from edge_lra.errors import EdgeError
from edge_lra.transport.base import Host

PACKAGES = ("onnxruntime", "numpy", "safetensors")
SAME_ARCH = {"arm64": "aarch64", "amd64": "x86_64", "armv8l": "armv7l", "i386": "i686"}

# Prints `name=value` lines, then cpuinfo. $1: the folder whose disk counts, there or not yet.
PROBE = r"""
LC_ALL=C; export LC_ALL
say() { printf "%s=%s\n" "$1" "$2"; }
say arch "$(uname -m)"
say system "$(uname -s) $(uname -r)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say cores "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
say brand "$(sysctl -n machdep.cpu.brand_string 2>/dev/null)"
say android "$(getprop ro.build.version.release 2>/dev/null)"
say phone "$(getprop ro.product.model 2>/dev/null)"
say model "$(tr -d "\000" 2>/dev/null </proc/device-tree/model)"
say total_kb "$(sed -n "s/^MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo 2>/dev/null)"
say free_kb "$(sed -n "s/^MemAvailable: *\([0-9]*\).*/\1/p" /proc/meminfo 2>/dev/null)"
say total_bytes "$(sysctl -n hw.memsize 2>/dev/null)"
cd "$HOME" 2>/dev/null
path=$1
while [ ! -d "$path" ]; do path=$(dirname "$path"); done
say disk "$(df -Pk "$path" 2>/dev/null | tail -n 1)"
printf "cpuinfo\n"
cat /proc/cpuinfo 2>/dev/null
"""


def parse_probe(text: str, versions: Mapping[str, str] | None = None) -> Host:
    """Return the host that PROBE described."""
    head, _, cpuinfo = text.partition("cpuinfo\n")
    said = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)

    def number(name: str) -> float | None:
        value = said.get(name, "").strip()
        return float(value) if value.isdigit() else None

    arch = normal_arch(said.get("arch", ""))
    if arch == "aarch64" and said.get("bits") == "32":
        arch = "armv7l"  # a 64-bit kernel below a 32-bit system: programs there are 32-bit
    total_kb, free_kb, total_bytes = number("total_kb"), number("free_kb"), number("total_bytes")
    android = said.get("android", "").strip()
    board = said.get("phone") or said.get("model") or arch
    disk_kb = re.search(r"(\d+) +\d+%", said.get("disk", ""))  # available, used in percent
    return Host(
        arch=arch,
        system=f"Android {android}" if android else said.get("system", "").strip(),
        cpu=said.get("brand") or cpu_name(cpuinfo, board),
        cores=int(number("cores") or 1),
        features=tuple(cpu_features(cpuinfo)),
        ram_mib=total_kb / 1024 if total_kb else total_bytes / 2**20 if total_bytes else None,
        free_mib=free_kb / 1024 if free_kb else None,
        free_disk_mib=int(disk_kb[1]) / 1024 if disk_kb else None,
        versions=dict(versions or {}),
    )


def normal_arch(arch: str) -> str:
    """Return an architecture by Linux's name."""
    arch = arch.strip().lower()
    return SAME_ARCH.get(arch, arch)


def require_arch(host: Host, arch: str, target: str, device: str) -> None:
    """Hold a host against the device it is to be.

    Raises:
        EdgeError: the architectures differ.
    """
    if normal_arch(host.arch) != normal_arch(arch):
        raise EdgeError(
            f"{target}: found {host.arch} ({host.cpu}), expected {arch} for {device}; "
            "check the target, or choose its --device"
        )
