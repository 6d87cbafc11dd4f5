"""What is done with a device: measured, executed, estimated, or refused before anything is sent."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_lra.device import load_device
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile import study as module
from edge_lra.profile.estimate import default_calibration, estimate
from edge_lra.profile.study import Study, check_memory, is_here, run_study
from edge_lra.transport import Host, Local

SHAPES = ((1, 8),)


@pytest.fixture(scope="module")
def bundle(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "b.edge"
    return export(ExportRequest(out, str(tiny_made / "model"), [("mood", tiny_made / "adapter")]))


class Target(Local):
    """A target that counts what is asked of it."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.name, self.target = "ssh", "ssh://target"
        self.changes, self.log = changes, [""][:0]

    def probe(self) -> Host:
        self.log.append("probe")
        return replace(super().probe(), **self.changes)

    def push(self, bundle: Path) -> str:
        self.log.append("push")
        return super().push(bundle)

    def clean_up(self) -> None:
        self.log.append("clean up")


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that puts a target where `open_target` finds it."""

    def put(**changes: Any) -> Target:
        target = Target(**changes)
        monkeypatch.setattr(module, "open_target", lambda *_: target)
        return target

    return put


def test_this_machine_is_measured_and_nothing_else_is_said_of_it(bundle: Path) -> None:
    (entry,) = run_study(Study(bundle, shapes=SHAPES, runs=3)).entries
    assert entry.measured is not None and len(entry.measured.timings[0].latencies_ms) == 3
    assert entry.emulated is None and entry.estimated is None
    assert (entry.device, entry.device_title) == ("host", "This machine")


def test_an_estimate_of_this_machine_stands_beside_its_measurement_and_says_its_error(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = default_calibration()
    monkeypatch.setattr(sys.modules[estimate.__module__], "calibrate", lambda threads: known)
    (entry,) = run_study(Study(bundle, estimate=True, shapes=SHAPES, runs=3)).entries
    assert entry.measured is not None and entry.estimated is not None
    middle, found = entry.estimated.shapes[0].middle_ms, entry.measured.timings[0]
    assert entry.estimated.calibration_error is not None
    error = entry.estimated.calibration_error["total"]
    assert error == pytest.approx(middle / found.percentile_ms(50) - 1)


def test_a_device_that_is_not_here_is_estimated_and_never_measured(bundle: Path) -> None:
    study = Study(bundle, devices=("iphone-15-pro", "rpi5"), shapes=SHAPES, estimate=True)
    entries = run_study(study).entries
    assert [entry.device for entry in entries] == ["iphone-15-pro", "rpi5"]
    for entry in entries:
        assert entry.measured is None and entry.emulated is None
        assert entry.estimated is not None
        assert entry.estimated.shapes[0].low_ms < entry.estimated.shapes[0].high_ms


def test_a_product_is_not_taken_for_this_machine_though_its_processor_is_of_the_same_kind() -> None:
    assert is_here(load_device("host"))
    assert not is_here(load_device("x86-vnni")) and not is_here(load_device("rpi5"))


def test_a_target_is_measured_under_the_name_that_was_asked_for(bundle: Path, reached: Any) -> None:
    target = reached()
    (entry,) = run_study(Study(bundle, target="ssh://x", shapes=SHAPES, runs=2)).entries
    assert entry.device == "ssh://target" and entry.measured is not None
    assert entry.measured.transport == "ssh"
    assert set(target.log[:-1]) == {"probe", "push"} and target.log[-1] == "clean up"


@pytest.mark.parametrize(
    ("devices", "changes", "message"),
    [
        (("rpi5",), {"arch": "riscv64"}, "found riscv64 .* expected aarch64 for Raspberry Pi 5"),
        ((), {"free_mib": 40.0}, "expected at most the 40 MiB free on ssh://target"),
    ],
)
def test_what_cannot_run_there_is_refused_before_anything_is_sent(
    bundle: Path, reached: Any, devices: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    target = reached(**changes)
    with pytest.raises(EdgeError, match=message):
        run_study(Study(bundle, devices=devices, target="ssh://x", shapes=SHAPES))
    assert target.log == ["probe", "clean up"]


def test_ctrl_c_cleans_up(bundle: Path, reached: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = reached()

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_study(Study(bundle, target="ssh://x", shapes=SHAPES))
    assert target.log[-1] == "clean up"


def test_memory_is_compared_with_what_is_free_there(bundle: Path) -> None:
    files = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()) / 2**20
    roomy = Host("aarch64", "Linux", "A53", 4, ram_mib=1024, free_mib=files + 61)
    check_memory(bundle, roomy, "t")
    check_memory(bundle, replace(roomy, free_mib=None), "t")
    with pytest.raises(EdgeError, match="--quantize"):
        check_memory(bundle, replace(roomy, free_mib=files + 59), "t")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"devices": ("rpi4", "rpi5"), "target": "ssh://x"},
            "found 2 devices for it, expected one",
        ),
        ({"target": "ssh://x", "estimate": True}, "--estimate: found a --target"),
        ({"devices": ("rpi6",)}, "rpi5"),
        ({"devices": ("rpi5", "rpi5")}, "--device: found rpi5 twice"),
        ({"target": "http://x"}, "ssh://"),
        ({"threads": 0}, "threads: found 0"),
        ({"threads": 9, "devices": ("rpi5",), "estimate": True}, "found 9, expected 1 to 4"),
        ({"shapes": ((1, 10**6),)}, "shape: found 1x1000000"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(
    bundle: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgeError, match=message):
        run_study(replace(Study(bundle, shapes=SHAPES), **changes))
