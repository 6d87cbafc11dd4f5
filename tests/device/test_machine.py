"""What a machine tells of itself, from files as systems write them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from edge_lra.device import load_device, machine, matches
from edge_lra.transport.base import Host

XEON = """processor\t: {i}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Processor
cpu MHz\t\t: 2299.99{i}
flags\t\t: fpu sse2 avx avx2 fma avx512f avx512_vnni hypervisor

"""
PI = """processor\t: {i}
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0x{part}

"""


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that stands for /proc and /sys; the clock is told nowhere else."""
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "CPUS", tmp_path / "cpu")
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    return tmp_path


def pretend(monkeypatch: pytest.MonkeyPatch, arch: str, logical: int, physical: int | None) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: arch)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True, n=logical: n if logical else 0)
    if physical is not None:
        counts = {True: logical, False: physical}
        monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: counts[logical])


def govern(folder: Path, khz: list[int]) -> None:
    for place, value in enumerate(khz):
        file = folder / "cpu" / f"cpu{place}" / "cpufreq" / "cpuinfo_max_freq"
        file.parent.mkdir(parents=True)
        file.write_text(f"{value}\n")


def test_an_x86_server_shows_its_vnni(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "x86_64", 4, 2)
    (linux / "cpuinfo").write_text("".join(XEON.format(i=i) for i in range(4)))
    (cluster,) = machine.find_clusters({})
    assert (cluster.core, cluster.cores) == ("Intel(R) Xeon(R) Processor", 2)
    assert cluster.clock_ghz == 2.3
    assert cluster.features == ("avx", "avx2", "fma", "avx512f", "avx512_vnni")
    assert cluster.int8_macs_per_cycle.value == 64
    assert cluster.int8_macs_per_cycle.source.startswith("derived from avx512_vnni")


def test_arm_cores_are_named_by_part_and_split_by_clock(
    linux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "aarch64", 4, 4)
    parts = ["d05", "d05", "d0b", "d0b"]
    (linux / "cpuinfo").write_text("".join(PI.format(i=i, part=p) for i, p in enumerate(parts)))
    govern(linux, [1800000, 1800000, 2400000, 2256000])
    known = {c.core: c for c in load_device("rk3588").clusters}
    found = machine.find_clusters(known)
    assert [(c.core, c.cores, c.clock_ghz) for c in found] == [
        ("Cortex-A76", 1, 2.4),
        ("Cortex-A76", 1, 2.26),
        ("Cortex-A55", 2, 1.8),
    ]
    assert found[0].int8_macs_per_cycle == known["Cortex-A76"].int8_macs_per_cycle


def test_a_host_of_a_known_core_has_its_rates(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "aarch64", 4, 4)
    (linux / "cpuinfo").write_text("".join(PI.format(i=i, part="d08") for i in range(4)))
    govern(linux, [1800000] * 4)
    host, board = load_device("host"), load_device("rpi4")
    assert (host.name, host.arch, host.system) == ("host", "aarch64", "Linux")
    assert [(c.core, c.int8_macs_per_cycle) for c in host.clusters] == [
        (c.core, c.int8_macs_per_cycle) for c in board.clusters
    ]


def test_a_machine_that_tells_no_clock_has_no_clusters(
    linux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "aarch64", 2, None)
    (linux / "cpuinfo").write_text("".join(PI.format(i=i, part="d40") for i in range(2)))
    host = load_device("host")
    assert (host.clusters, host.cores) == ((), 0)
    assert host.ram_mib is not None and host.ram_mib > 0


def test_a_mac_is_asked_by_sysctl(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "arm64", 8, 8)
    told = {
        "machdep.cpu.brand_string": "Apple M2",
        "hw.optional.arm.FEAT_DotProd": "1",
        "hw.optional.arm.FEAT_I8MM": "1",
        "hw.optional.arm.FEAT_BF16": "0",
    }
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine, "_sysctl", lambda name: told.get(name, ""))
    monkeypatch.setattr(machine, "_psutil_ghz", lambda: 3.5)
    host = load_device("host")
    assert (host.arch, host.system, host.cores) == ("aarch64", "macOS", 8)
    (cluster,) = host.clusters
    assert (cluster.core, cluster.features) == ("Apple M2", ("asimddp", "i8mm"))
    # onnxruntime's i8mm kernels are not compiled for macOS.
    assert cluster.int8_macs_per_cycle.value == 32


@pytest.mark.parametrize(
    ("arch", "features", "int8"),
    [
        ("x86_64", ("avx2", "avx_vnni"), 64),
        ("x86_64", ("avx2",), 32),
        ("x86_64", (), 8),
        ("aarch64", ("asimddp", "i8mm"), 64),
        ("aarch64", ("asimddp",), 32),
        ("aarch64", ("asimd",), 5.33),
        ("riscv64", (), 8),
    ],
)
def test_rates_follow_from_features(
    linux: Path, arch: str, features: tuple[str, ...], int8: float
) -> None:
    assert machine.rates(arch, features)[0].value == int8


def test_this_machine_is_the_host() -> None:
    host = load_device("host")
    here = Host(machine.platform.machine(), host.system, "x", 1)
    assert matches(host, here)
    assert host.ram_mib == pytest.approx(psutil.virtual_memory().total / 2**20, abs=1)
