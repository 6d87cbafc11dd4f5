"""`edge-lra profile` as a person sees it: words, files and exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_lra.cli import main
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile.result import Profile
from tests.profile.profiles import emulated, entry


@pytest.fixture(scope="module")
def made(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profile") / "b.edge"
    return export(ExportRequest(out, str(tiny_made / "model"), [("mood", tiny_made / "adapter")]))


@pytest.fixture
def bundle(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


def run(bundle: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["profile", str(bundle), "--shape", "1x8", *arguments])


def test_files_are_written_beside_the_terminals_report(bundle: Path) -> None:
    result = run(bundle, "--runs", "3", "--html", "p.html", "--trace", "t.json")
    assert result.exit_code == 0, result.stderr
    assert "Measured on" in result.stdout and "p.html written." in result.stdout
    assert Path("p.html").read_text().startswith("<!doctype html>")
    assert {event["ph"] for event in json.loads(Path("t.json").read_text())["traceEvents"]} >= {"X"}


def test_an_estimate_is_called_one(bundle: Path) -> None:
    result = run(bundle, "--device", "rpi5", "--estimate")
    assert result.exit_code == 0, result.stderr
    assert "Estimated for Raspberry Pi 5 from its data sheet" in result.stdout
    assert "Measured on" not in result.stdout


def test_a_limit_holds_the_upper_end_of_an_estimate(bundle: Path) -> None:
    arguments = ("--device", "rpi5", "--estimate", "--limit")
    assert run(bundle, *arguments, "p50_ms=1000").exit_code == 0
    result = run(bundle, *arguments, "p50_ms=0.000001")
    assert result.exit_code == 3 and "estimated up to p50_ms" in result.stderr


def test_a_limit_on_what_was_not_measured_is_refused(bundle: Path) -> None:
    result = run(bundle, "--device", "rpi5", "--estimate", "--limit", "p99_ms=1000")
    assert result.exit_code == 1
    assert "limit p99_ms: found only devices that are emulated or estimated" in result.stderr


def test_every_device_over_a_limit_is_told(bundle: Path) -> None:
    devices = ("--device", "rpi5", "--device", "rpi4", "--estimate")
    result = run(bundle, *devices, "--limit", "p50_ms=0.000001")
    assert result.exit_code == 3
    assert "Raspberry Pi 5" in result.stderr and "Raspberry Pi 4" in result.stderr


@pytest.mark.parametrize("option", ["--threads", "--sweep"])
def test_more_threads_than_cores_are_refused(bundle: Path, option: str) -> None:
    result = run(bundle, option, "4096")
    assert result.exit_code == 1 and f"{option}: found 4096, expected at most" in result.stderr


def test_a_sweep_begins_with_the_threads_of_the_latencies(bundle: Path) -> None:
    result = run(bundle, "--runs", "3", "--sweep", "2", "--json", "-")
    if result.exit_code == 1:  # on a machine of one core
        assert "--sweep: found 2, expected at most the 1 cores" in result.stderr
        return
    (entry,) = json.loads(result.stdout)["entries"]
    assert [row["threads"] for row in entry["measured"]["sweep"]] == [1, 2]


@pytest.mark.parametrize(
    "option", [("--trace", "t.json"), ("--sweep", "2"), ("--runs", "3"), ("--budget", "1")]
)
def test_what_only_a_measurement_uses_is_refused_before_any_work(
    bundle: Path, option: tuple[str, str]
) -> None:
    result = run(bundle, "--device", "rpi5", *option)
    assert result.exit_code == 1 and f"{option[0]}: found only devices" in result.stderr
    assert not Path("t.json").exists()


def test_files_to_keep_need_a_target_to_keep_them(bundle: Path) -> None:
    result = run(bundle, "--keep", "--runs", "1")
    assert result.exit_code == 1 and "--keep: found no --target" in result.stderr


def test_an_empty_target_is_not_this_machine(bundle: Path) -> None:
    result = run(bundle, "--target", "", "--runs", "1")
    assert result.exit_code == 1 and "--target: found ''" in result.stderr


@pytest.mark.parametrize("option", ["--trace", "--json"])
def test_two_documents_are_not_written_to_one_file(bundle: Path, option: str) -> None:
    result = run(bundle, "--html", "p", option, "./p", "--runs", "1")
    assert result.exit_code == 1 and "p: found the file of --html" in result.stderr
    assert not Path("p").exists()


def test_wrong_numbers_are_told_before_a_limit_that_cannot_be_held(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Profile((entry(emulated=emulated(passed=False)),))
    monkeypatch.setattr(sys.modules["edge_lra.cli.profile"], "run", lambda *_: found)
    assert run(bundle, "--limit", "p99_ms=1").exit_code == 3


def test_a_missing_emulator_is_told_with_the_command_that_sets_it_up(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGE_LRA_ARM64", raising=False)
    result = run(bundle, "--device", "arm64")
    assert result.exit_code == 1
    assert "run edge-lra devices --setup arm64" in result.stderr


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 3)])
def test_wrong_numbers_on_an_emulated_core_fail_the_command(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, passed: bool, code: int
) -> None:
    found = Profile((entry(emulated=emulated(passed=passed)),))
    monkeypatch.setattr(sys.modules["edge_lra.cli.profile"], "run", lambda *_: found)
    result = run(bundle)
    assert result.exit_code == code
    assert ("do not ship it there" in result.stderr) is not passed
