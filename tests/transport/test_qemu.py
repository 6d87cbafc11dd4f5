"""An emulated core: a real arm64 Python under qemu. `make test` sets it up."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_lra
from edge_lra.errors import EdgeError
from edge_lra.transport import TRANSPORTS
from edge_lra.transport.qemu import Qemu
from edge_lra.transport.sysroot import Sysroot, find_sysroot
from edge_lra.transport.translated import name_instructions, read_instructions

FOLDER = Path(edge_lra.__file__).parent.parent / ".cache" / "arm64"


@pytest.fixture
def sysroot() -> Sysroot:
    return find_sysroot(FOLDER)


@pytest.mark.parametrize(
    ("cpu", "core", "has", "lacks"),
    [
        ("cortex-a53", "Cortex-A53", "asimd", "asimddp"),
        ("cortex-a76", "Cortex-A76", "asimddp", "i8mm"),
        ("neoverse-v1", "Neoverse-V1", "i8mm", "sve2"),
    ],
)
def test_a_probe_finds_the_core_that_was_asked_for(
    sysroot: Sysroot, cpu: str, core: str, has: str, lacks: str
) -> None:
    transport = Qemu(cpu, sysroot)
    host = transport.probe()
    transport.clean_up()
    assert host.arch == "aarch64"
    assert core in host.cpu
    assert has in host.features
    assert lacks not in host.features
    assert host.versions["onnxruntime"] == sysroot.versions["onnxruntime"]


def test_an_emulator_keeps_no_time() -> None:
    assert TRANSPORTS["qemu"].keeps_time is False


@pytest.mark.parametrize("what", ["measure", "cold", "operators", "sweep", "unpacked"])
def test_a_request_for_a_time_is_refused(sysroot: Sysroot, what: str) -> None:
    with pytest.raises(
        EdgeError, match=f"was asked for '{what}', expected one of probe, check, prepack"
    ):
        Qemu("cortex-a53", sysroot).run({"what": what, "bundles": ["x"]})


def test_an_unknown_core_is_refused_with_the_known_ones(sysroot: Sysroot) -> None:
    with pytest.raises(EdgeError, match=r"'cortex-a99', expected one of .*cortex-a53.*neoverse-v1"):
        Qemu("cortex-a99", sysroot)


def test_a_core_may_have_properties(sysroot: Sysroot) -> None:
    transport = Qemu("max,sve=off", sysroot)
    features = transport.probe().features
    transport.clean_up()
    assert "i8mm" in features
    assert "sve" not in features


def test_without_a_set_up_the_command_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EDGE_LRA_ARM64", raising=False)
    with pytest.raises(EdgeError, match=r"found nothing set up .*; run edge-lra devices --setup"):
        Qemu("cortex-a53")


def test_a_program_that_crashes_says_nothing_about_the_device(sysroot: Sysroot) -> None:
    transport = Qemu("cortex-a53,aarch64=off", sysroot)
    with pytest.raises(EdgeError, match=r"emulated cortex-a53,aarch64=off: the program ended with"):
        transport.probe()
    transport.clean_up()


def test_a_mistake_inside_is_one_line(sysroot: Sysroot, tmp_path: Path) -> None:
    transport = Qemu("cortex-a76", sysroot)
    with pytest.raises(EdgeError, match=r"found no manifest\.json, expected a bundle"):
        transport.run({"what": "check", "bundles": [str(tmp_path)], "threads": 1})
    transport.clean_up()


def test_only_instructions_inside_the_ranges_count(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "----------------\nIN: \n"
        "0x7f00001000:  6f82e020  .byte    0x20, 0xe0, 0x82, 0x6f\n"
        "0x7f00001004:  8b010000  add      x0, x0, x1\n"
        "\n----------------\nIN: \n"
        "0x7f00002000:  4e22cc20  fmla     v0.4s, v1.4s, v2.4s\n"
    )
    assert read_instructions(log, [[0x7F00001000, 0x7F00002000]]) == ("UDOT",)
    assert read_instructions(log, [[0x7F00001004, 0x7F00003000]]) == ("FMLA",)
    assert read_instructions(log, []) == ()


@pytest.mark.parametrize(
    ("word", "names"),
    [
        (0x0E228020, ("SMLAL (8 bits)",)),  # smlal v0.8h, v1.8b, v2.8b
        (0x0E628020, ()),  # smlal v0.4s, v1.4h, v2.4h
        (0x4E82A420, ("SMMLA",)),  # smmla v0.4s, v1.16b, v2.16b
        (0x45C29820, ("UMMLA (SVE)",)),  # ummla z0.s, z1.b, z2.b
        (0xA0820020, ("SMOPA (SME)",)),  # smopa za0.s, p0/m, p0/m, z1.b, z2.b
        (0x4E62CC20, ()),  # fmla v0.2d, v1.2d, v2.2d
        (0xD503201F, ()),  # nop
    ],
)
def test_words_are_named_as_arm_encodes_them(word: int, names: tuple[str, ...]) -> None:
    assert name_instructions({word}) == names
