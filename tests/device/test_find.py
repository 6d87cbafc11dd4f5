"""Devices by name and by file, a user's own, and what is wrong with one in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_lra.device import known_devices, load_device, matches
from edge_lra.errors import EdgeError
from edge_lra.transport.base import Host

BOARD = """
title = "My board"
arch = "aarch64"
system = "Linux"
ram_mib = 2048
transports = ["ssh"]
providers = ["CPUExecutionProvider"]
scheme = "int8"
scheme_reason = "measured"
[[cluster]]
core = "Cortex-A55"
cores = 4
clock_ghz = 1.5
features = ["asimd", "asimddp"]
int8_macs_per_cycle = { value = 16, source = "guide" }
fp32_macs_per_cycle = { value = 4, source = "guide" }
"""


@pytest.fixture
def board(tmp_path: Path) -> Path:
    file = tmp_path / "own" / "board.toml"
    file.parent.mkdir()
    file.write_text(BOARD)
    return file


def wrong(file: Path, old: str, new: str) -> str:
    """Return the one line that a changed file gives."""
    assert old in BOARD
    file.write_text(BOARD.replace(old, new))
    with pytest.raises(EdgeError) as caught:
        load_device(file)
    line = str(caught.value)
    assert line.startswith(str(file)) and "\n" not in line
    return line.removeprefix(str(file))


# ---- found -----------------------------------------------------------------------------------


def test_a_file_is_a_device(board: Path) -> None:
    device = load_device(board)
    assert (device.name, device.title, device.cores) == ("board", "My board", 4)
    assert device.theoretical_gb_s is None and device.qemu_cpu is None
    assert load_device(str(board)) == device
    assert json.loads(json.dumps(device.as_dict()))["clusters"][0]["cores"] == 4


def test_a_folders_devices_are_known_by_name(board: Path) -> None:
    assert known_devices(board.parent)["board"] == board
    assert load_device("board", board.parent) == load_device(board)
    with pytest.raises(EdgeError, match="found 'board', expected a known one"):
        load_device("board")


def test_a_device_like_another_takes_what_it_does_not_say(board: Path) -> None:
    board.write_text('like = "rpi4"\nram_mib = 8192\n[sources]\nram = "label"\n')
    mine, base = load_device(board), load_device("rpi4")
    assert (mine.name, mine.ram_mib, mine.clusters) == ("board", 8192, base.clusters)
    assert mine.sources == {**base.sources, "ram": "label"}


def test_a_device_may_be_like_a_users_other_one(board: Path) -> None:
    (board.parent / "two.toml").write_text('like = "board"\ntitle = "Two"\n')
    assert load_device("two", board.parent).clusters == load_device(board).clusters


def test_a_users_file_named_host_is_no_host(board: Path) -> None:
    file = board.rename(board.with_name("host.toml"))
    assert load_device(file).title == "My board"
    file.write_text(BOARD.split("[[cluster]]")[0])
    with pytest.raises(EdgeError, match="found no 'cluster', expected it"):
        load_device(file)


@pytest.mark.parametrize(
    ("arch", "fits"),
    [("aarch64", True), ("arm64", True), ("ARM64", True), ("x86_64", False), ("armv7l", False)],
)
def test_a_machine_matches_a_device_of_its_architecture(arch: str, fits: bool) -> None:
    assert matches(load_device("rpi5"), Host(arch, "Linux", "x", 4)) is fits


# ---- not found -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "close"), [("rpi6", "rpi5"), ("Pixel8", "pixel-8"), ("gravitron3", "graviton3")]
)
def test_an_unknown_device_names_the_closest(name: str, close: str) -> None:
    with pytest.raises(EdgeError) as caught:
        load_device(name)
    line = str(caught.value)
    assert repr(name) in line and close in line and "edge-lra devices" in line


def test_nothing_close_is_not_guessed_at() -> None:
    with pytest.raises(EdgeError, match=r"found 'zzz', expected a known one, or a \.toml file"):
        load_device("zzz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"none\.toml: found no file"):
        load_device(tmp_path / "none.toml")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="devices: found no folder"):
        known_devices(tmp_path / "none")


def test_a_name_that_is_taken_is_refused(board: Path) -> None:
    board.rename(board.with_name("rpi4.toml"))
    with pytest.raises(EdgeError, match="found a device named 'rpi4', which edge-lra brings"):
        load_device("rpi5", board.parent)


def test_a_name_that_an_option_cannot_take_is_refused(board: Path) -> None:
    board.rename(board.with_name("My Board.toml"))
    with pytest.raises(EdgeError, match="expected a name of small letters"):
        known_devices(board.parent)


# ---- wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("ram_mib", "ram_mb", ": found key 'ram_mb', expected 'ram_mib', or another of title"),
        ("clock_ghz", "clock", "cluster[0].found key 'clock', expected 'clock_ghz'"),
        ("value = 16", "val = 16", "int8_macs_per_cycle.found key 'val', expected 'value'"),
        ("ram_mib = 2048\n", "", ": found no 'ram_mib', expected it"),
        ('core = "Cortex-A55"\n', "", ": cluster[0].found no 'core', expected it"),
        (', source = "guide" }\nfp32', " }\nfp32", "int8_macs_per_cycle.found no 'source'"),
        ("ram_mib = 2048", "ram_mib = 2.5", ": ram_mib: found 2.5, expected a whole number"),
        ("cores = 4", "cores = true", ": cluster[0].cores: found True, expected a whole number"),
        ("cores = 4", "cores = 0", ": cluster[0].cores: found 0, expected a whole number"),
        ("1.5", "-1", ": cluster[0].clock_ghz: found -1, expected a number above 0"),
        ("1.5", "nan", ": cluster[0].clock_ghz: found nan, expected a number above 0"),
        ("value = 16", "value = '16'", ".value: found '16', expected a number above 0"),
        ("{ value = 4", "4 #", ": cluster[0].fp32_macs_per_cycle: found 4, expected { value"),
        ('"My board"', '""', ": title: found '', expected a text"),
        ('"aarch64"', '"arm"', ": arch: found 'arm', expected one of aarch64, x86_64, wasm32"),
        ('"int8"', '"int7"', ": scheme: found 'int7', expected one of int8"),
        ('["ssh"]', '["usb"]', ": transports: found 'usb', expected one of local, ssh, adb, qemu"),
        ('["ssh"]', '"ssh"', ": transports: found 'ssh', expected a list of texts"),
        ('["ssh"]', '["qemu"]', ": found transport 'qemu' without qemu_cpu"),
        ("[[cluster]]", "[cluster]", ": cluster: found {"),
        ("title =", 'like = "host"\ntitle =', ": like: found 'host', expected a known device"),
        ("title =", 'like = "rpi9"\ntitle =', ": like: found 'rpi9', expected a known device"),
        ("title =", "sources = 3\ntitle =", ": sources: found 3, expected a table of texts"),
        ("title =", "title", ": found "),
        (
            "[[cluster]]",
            '[memory]\ntheoretical_gb_s = {value = 3, source = "a"}\n'
            'measured_gb_s = {value = 4, source = "b"}\n[[cluster]]',
            ": memory.measured_gb_s: found 4, expected at most the theoretical 3",
        ),
    ],
)
def test_a_wrong_file_is_one_line_with_the_key(board: Path, old: str, new: str, line: str) -> None:
    found = wrong(board, old, new)
    assert re.sub(r"\W+", " ", line).strip() in re.sub(r"\W+", " ", found)


def test_devices_that_are_like_each_other_are_refused(board: Path) -> None:
    board.write_text('like = "two"\n')
    (board.parent / "two.toml").write_text('like = "board"\n')
    with pytest.raises(EdgeError, match="leads back here"):
        load_device("two", board.parent)


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b"\xff"), lambda p: p.write_text("=")])
def test_what_is_no_toml_is_said(board: Path, spoil: Callable[[Path], object]) -> None:
    spoil(board)
    with pytest.raises(EdgeError, match="expected TOML in UTF-8"):
        load_device(board)
