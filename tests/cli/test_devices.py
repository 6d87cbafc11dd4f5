"""`edge-lra devices`, and exports for a device."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_lra.cli import main
from edge_lra.device import known_devices, load_device
from tests.cli.documents import document

EXPORT = ("export", "--model", "model", "--adapter", "adapter", "--no-verify", "--out", "b.edge")
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.stderr
    return result.stdout


def picky(folder: Path) -> None:
    """Write a device of the user's own that no int8 suits."""
    folder.mkdir()
    text = 'like = "rpi4"\ntitle = "Picky"\nscheme = "none"\nscheme_reason = "it has a float unit"'
    (folder / "picky.toml").write_text(text)


# ---- listed, shown ---------------------------------------------------------------------------


def test_the_list_fits_80_columns_and_cuts_no_name() -> None:
    text = shown("devices")
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert known_devices().keys() <= rows.keys()
    assert "…" not in text
    for part in ("1+3+2+2", "8 GiB", "int8", "adb qemu"):
        assert part in rows["snapdragon-8-gen-3"]
    assert "estimate only" in rows["browser"] and "512 MiB" in rows["rpi-zero-2w"]


def test_one_is_shown_with_all_its_sources() -> None:
    text = " ".join(shown("devices", "rk3588").split())
    device = load_device("rk3588")
    assert device.theoretical_gb_s and device.measured_gb_s
    sources = [device.theoretical_gb_s.source, device.measured_gb_s.source, device.scheme_reason]
    sources += device.sources.values()
    for cluster in device.clusters:
        sources += [cluster.int8_macs_per_cycle.source, cluster.fp32_macs_per_cycle.source]
        assert f"4 x {cluster.core}, {cluster.clock_ghz:g} GHz" in text
    unbroken = text.replace(" ", "")
    assert [source for source in sources if source.replace(" ", "") not in unbroken] == []


def test_json_has_every_device_and_one_alone() -> None:
    found = document("devices")
    assert [entry["name"] for entry in found["devices"]] == list(known_devices())
    assert found["sysroot"] is None
    (one,) = document("devices", "rpi5")["devices"]
    assert one in found["devices"] and one["clusters"][0]["int8_macs_per_cycle"]["value"] == 32


def test_a_projects_own_devices_are_listed(tmp_path: Path) -> None:
    picky(tmp_path / "mine")
    Path("edge-lra.toml").write_text('devices = "mine"\n')
    assert "Picky" in shown("devices")
    assert document("devices", "picky")["devices"][0]["scheme"] == "none"
    assert document("devices", "mine/picky.toml")["devices"][0]["title"] == "Picky"


def test_what_cannot_be_shown_is_refused(refused: Refused) -> None:
    assert "such as rpi5" in refused("devices", "rpi6")
    assert "found host, which is not emulated" in refused("devices", "--setup", "host")
    assert "found 'rpi6'" in refused("devices", "--setup", "rpi6")
    assert "--setup takes the device's name" in refused(
        "devices", "rpi4", "--setup", "rpi4", code=2
    )
    Path("edge-lra.toml").write_text('devices = "none"\n')
    assert "found no folder" in refused("devices")


# ---- set up ----------------------------------------------------------------------------------


def test_setup_fetches_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def set_up(progress: object = None) -> Path:
        asked.append(progress)
        return Path("cache/sysroot")

    sysroot = types.ModuleType("edge_lra.transport.sysroot")
    sysroot.set_up = set_up  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "edge_lra.transport.sysroot", sysroot)
    assert "can be emulated now, offline: cache/sysroot" in shown("devices", "--setup", "arm64")
    found = document("devices", "--setup", "arm64")
    assert (found["sysroot"], found["devices"][0]["name"]) == ("cache/sysroot", "arm64")
    assert asked == [None, None]  # a pipe shows no progress


# ---- exports ---------------------------------------------------------------------------------


def test_an_export_takes_the_devices_scheme_and_says_why(tiny: Path) -> None:
    text = " ".join(shown(*EXPORT, "--device", "rpi5").split())
    assert "For Raspberry Pi 5: int8, by the device: dot products" in text
    manifest = json.loads(Path("b.edge/manifest.json").read_text())
    assert (manifest["device"], manifest["scheme"]) == ("rpi5", "int8")


def test_an_export_without_a_device_names_none(tiny: Path) -> None:
    assert "For " not in shown(*EXPORT)
    assert document(*EXPORT)["manifest"]["device"] is None


@pytest.mark.parametrize(
    ("flag", "toml", "device", "scheme", "by"),
    [
        (None, None, "picky", "none", "the device"),
        (None, "int8", "picky", "int8", "edge-lra.toml"),
        ("int8", "none", "picky", "int8", "--quantize"),
        ("none", "int8", "picky", "none", "--quantize"),
        (None, None, "rpi4", "int8", "the device"),
    ],
)
def test_flags_beat_settings_which_beat_the_device(
    tiny: Path, flag: str | None, toml: str | None, device: str, scheme: str, by: str
) -> None:
    picky(tiny / "mine")
    settings = f'devices = "mine"\ndevice = "{device}"\n'
    Path("edge-lra.toml").write_text(settings + (f'quantize = "{toml}"\n' if toml else ""))
    result = CliRunner().invoke(main, [*EXPORT, *(("--quantize", flag) if flag else ())])
    assert result.exit_code == 0, result.stderr
    assert f": {scheme}, by {by}: " in " ".join(result.stdout.split())
    manifest = json.loads(Path("b.edge/manifest.json").read_text())
    assert (manifest["device"], manifest["scheme"]) == (device, scheme)


def test_a_scheme_that_does_not_suit_is_warned_of(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = shown(*EXPORT, "--device", "rpi5", "--quantize", "none")
    assert "none, by --quantize: int8 would suit it" in " ".join(text.split())
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "edge_lra.cli.export"]
    assert warning.startswith("Raspberry Pi 5: none was asked for by --quantize; int8 suits it: ")
    caplog.clear()
    shown(*EXPORT, "--device", "rpi5", "--quantize", "int8")
    assert not [r for r in caplog.records if r.name == "edge_lra.cli.export"]


def test_the_device_flag_beats_the_projects_device(tiny: Path) -> None:
    Path("edge-lra.toml").write_text('device = "rpi4"\n')
    assert document(*EXPORT, "--device", "rpi5")["manifest"]["device"] == "rpi5"


def test_an_unknown_device_stops_an_export(refused: Refused) -> None:
    assert "such as rpi5" in refused(*EXPORT, "--device", "rpi6")
    Path("edge-lra.toml").write_text('device = "gravitron3"\n')
    assert "graviton3" in refused(*EXPORT)


def test_the_host_can_be_exported_for(tiny: Path) -> None:
    assert "For This machine: int8" in shown(*EXPORT, "--device", "host")
