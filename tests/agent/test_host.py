"""What the agent says of its machine, from files as Linux writes them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edge_lra.agent import host
from edge_lra.agent.host import cpu_features, cpu_name, probe
from edge_lra.transport import Host

BIG = "processor\t: 4\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 0\n\n"  # noqa: E501
SMALL = BIG.replace("0xd0b", "0xd05")


def test_a_probe_is_a_host() -> None:
    found = probe({})
    assert Host(**found).arch == platform.machine()
    assert found["cores"] >= 1 and found["cpu"]
    assert 0 < found["free_mib"] <= found["ram_mib"]
    assert found["free_disk_mib"] > 0
    assert {"python", "edge-lra", "onnxruntime", "numpy"} <= found["versions"].keys()


def test_arm_cores_are_named_and_counted_beside_their_board() -> None:
    assert cpu_name(4 * BIG, "") == "4x Cortex-A76"
    board = "Raspberry Pi 5 Model B Rev 1.0"
    assert cpu_name(4 * BIG, board) == f"{board} (4x Cortex-A76)"
    assert cpu_name(6 * SMALL + 2 * BIG, "") == "2x Cortex-A76 + 6x Cortex-A55"
    assert cpu_name(BIG.replace("0xd0b", "0xfff"), "") == "1x ARM core 0x41/0xfff"
    assert cpu_features(BIG) == ["fp", "asimd", "asimddp"]


def test_x86_is_named_by_its_model() -> None:
    assert cpu_name("model name\t: AMD EPYC\nflags\t\t: fpu avx2\n", "") == "AMD EPYC"
    assert cpu_name("", "") == platform.processor() or platform.machine()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\n")
    monkeypatch.setattr(host, "ROOT", tmp_path)
    return tmp_path


def test_memory_is_the_machines_without_a_control_group(root: Path) -> None:
    found = probe({})
    assert (found["ram_mib"], found["free_mib"]) == (4096, 2048)


@pytest.mark.parametrize(
    ("group", "folder", "limit", "used"),
    [
        ("0::/app/inner\n", "app", "memory.max", "memory.current"),
        ("4:memory:/app\n", "memory/app", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_a_control_group_limits_memory(
    root: Path, group: str, folder: str, limit: str, used: str
) -> None:
    (root / "proc/self/cgroup").write_text(group)
    place = root / "sys/fs/cgroup" / folder
    place.mkdir(parents=True)
    (place / limit).write_text(f"{512 << 20}\n")
    (place / used).write_text(f"{112 << 20}\n")
    found = probe({})
    assert (found["ram_mib"], found["free_mib"]) == (512, 400)
    (place / limit).write_text("max\n")
    assert probe({})["ram_mib"] == 4096
