"""The committed devices: complete, sourced, plausible, and in step with the tables of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edge_lra
from edge_lra import transport
from edge_lra.device import Device, Figure, known_devices, load_device
from edge_lra.device.read import TRANSPORTS, known_schemes
from edge_lra.quantize import SCHEMES

FILES = known_devices()
DESCRIBED = [name for name in FILES if name != "host"]
WANTED = {
    *("host", "arm64", "rpi3", "rpi-zero-2w", "rpi4", "rpi5", "rk3588", "jetson-orin-nano"),
    *("pixel-8", "snapdragon-8-gen-3", "iphone-15-pro", "graviton2", "graviton3"),
    *("x86-avx2", "x86-vnni", "browser", "cortex-a53", "cortex-a76", "neoverse-v1"),
}


@pytest.fixture(params=DESCRIBED)
def device(request: pytest.FixtureRequest) -> Device:
    return load_device(request.param)


def test_every_device_is_there_and_beside_them_nothing_but_data() -> None:
    assert FILES.keys() >= WANTED
    folder = Path(edge_lra.__file__).parent.parent / "devices"
    assert {path.suffix for path in folder.iterdir()} == {".toml"}


def test_every_figure_has_a_source(device: Device) -> None:
    assert {"cores", "features", "ram"} <= device.sources.keys()
    figures = [device.theoretical_gb_s, device.measured_gb_s]
    for cluster in device.clusters:
        figures += [cluster.int8_macs_per_cycle, cluster.fp32_macs_per_cycle]
    texts = [figure.source for figure in figures if figure] + list(device.sources.values())
    assert device.theoretical_gb_s is not None
    assert all(len(text) > 20 for text in texts)


def test_what_was_measured_was_not_derived(device: Device) -> None:
    if device.measured_gb_s:
        assert "derived" not in device.measured_gb_s.source
        assert re.search(r"https?://", device.measured_gb_s.source)


def test_figures_are_plausible(device: Device) -> None:
    assert device.ram_mib and 512 <= device.ram_mib <= 2**17
    for cluster in device.clusters:
        assert 1 <= cluster.cores <= 64 and 1 <= cluster.clock_ghz <= 5
        ratio = cluster.int8_macs_per_cycle.value / cluster.fp32_macs_per_cycle.value
        dot = {"asimddp", "avx512_vnni"} & set(cluster.features)
        # Dot products make four products of one; without them int8 gains little.
        assert ratio >= 4 if dot else 1 < ratio <= 3
    speeds = [c.clock_ghz * c.int8_macs_per_cycle.value for c in device.clusters]
    assert speeds == sorted(speeds, reverse=True)


@pytest.mark.parametrize(
    ("name", "clusters", "theoretical_gb_s", "measured_gb_s"),
    [
        ("rpi3", [("Cortex-A53", 4, 1.4)], 3.6, (1.0, 1.3)),
        ("rpi4", [("Cortex-A72", 4, 1.8)], 12.8, (2.2, 2.9)),
        ("rpi5", [("Cortex-A76", 4, 2.4)], 17.1, (4.9, 6.2)),
        ("rk3588", [("Cortex-A76", 4, 2.4), ("Cortex-A55", 4, 1.8)], 33.8, (11, 13)),
        ("graviton3", [("Neoverse-V1", 64, 2.6)], 307.2, None),
    ],
)
def test_known_boards_have_their_published_figures(
    name: str,
    clusters: list[tuple[str, int, float]],
    theoretical_gb_s: float,
    measured_gb_s: tuple[float, float] | None,
) -> None:
    device = load_device(name)
    assert [(c.core, c.cores, c.clock_ghz) for c in device.clusters] == clusters
    assert isinstance(device.theoretical_gb_s, Figure)
    assert device.theoretical_gb_s.value == pytest.approx(theoretical_gb_s, rel=0.01)
    if measured_gb_s is None:
        assert device.measured_gb_s is None
    else:
        low, high = measured_gb_s
        assert device.measured_gb_s and low <= device.measured_gb_s.value <= high


def test_a_core_has_the_same_rates_in_every_file() -> None:
    rates: dict[str, set[tuple[float, float]]] = {}
    for name in DESCRIBED:
        if name != "browser":
            for c in load_device(name).clusters:
                pair = (c.int8_macs_per_cycle.value, c.fp32_macs_per_cycle.value)
                rates.setdefault(c.core, set()).add(pair)
    assert {core: pairs for core, pairs in rates.items() if len(pairs) > 1} == {}


@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a72", "cortex-a76", "neoverse-v1"])
def test_a_core_is_emulated_as_exactly_that_core(core: str) -> None:
    device = load_device(core)
    assert (device.qemu_cpu, device.transports, device.arch) == (core, ("qemu",), "aarch64")
    assert [cluster.core.lower() for cluster in device.clusters] == [core]


def test_only_arm_is_emulated(device: Device) -> None:
    assert device.arch == "aarch64" or "qemu" not in device.transports


def test_schemes_are_those_of_the_code() -> None:
    assert known_schemes() == tuple(SCHEMES)


def test_transports_are_those_of_the_code() -> None:
    assert set(TRANSPORTS) == set(transport.TRANSPORTS)
