"""Real profiles of a bundle of a few kilobytes."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from edge_lra.profile.operators import sum_by_operator as sum_of
from rich.console import Console

from edge_lra.cli import main
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile import measure, operators, render
from edge_lra.profile.result import Profile


@pytest.fixture(scope="module")
def made(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profile") / "b.edge"
    adapters = [("mood", tiny_made / "adapter")]
    return export(ExportRequest(out, str(tiny_made / "model"), adapters, mode="factored"))


@pytest.fixture
def bundle(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a bundle that lies in the current folder."""
    monkeypatch.chdir(made.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture(scope="module")
def found(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return measure(made, [(1, 8), (2, 30)], runs=20, against=made)


def test_a_profile_holds_what_was_run(found: Profile, made: Path) -> None:
    assert found.measured.adapter == "mood"
    assert [timing.shape for timing in found.measured.timings] == [(1, 8), (2, 30)]
    for timing in found.measured.timings:
        assert len(timing.latencies_ms) == 20 and min(timing.latencies_ms) > 0
        for percent in (50, 90, 95, 99):
            expected = np.percentile(timing.latencies_ms, percent)
            assert timing.percentile_ms(percent) == pytest.approx(expected)
    assert 0 < found.measured.load_s < 10
    assert found.measured.peak_rss_mib > found.measured.model_rss_mib > 0
    sizes = {p.name: p.stat().st_size for p in made.rglob("*") if p.is_file()}
    assert {Path(n).name: size for n, size in found.measured.file_bytes.items()} == sizes


def test_operators_are_those_of_one_run(found: Profile) -> None:
    named = {operator.name: operator for operator in found.measured.operators}
    assert named["MultiHeadAttention"].nodes == 2
    assert {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"} & named.keys()
    assert not {"If", "MatMulInteger"} & named.keys()  # control flow; unfused products
    times = [operator.mean_ms for operator in found.measured.operators]
    assert times == sorted(times, reverse=True) and min(times) >= 0


def test_operators_take_no_longer_than_the_run(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(operators, "sum_by_operator", lambda e: events.extend(e) or sum_of(e))
    request = {"bundles": [bundle], "threads": 1, "adapter": None, "shapes": [[1, 8]]}
    rows = operators.measure_operators(request)
    runs = [event["dur"] / 1e3 for event in events if event["name"] == "model_run"]
    assert len(runs) == operators.WARMUP + operators.RUNS
    assert 0 < sum(row["mean_ms"] for row in rows) <= np.mean(runs[operators.WARMUP :])


def test_a_bundle_against_itself_is_neither_faster_nor_slower(found: Profile) -> None:
    assert set(found.ratios()) == {"1x8", "2x30"}
    assert all(0.5 < ratio < 2 for ratio in found.ratios().values())


def test_the_report_fits_eighty_columns(found: Profile) -> None:
    text = io.StringIO()
    render(found, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    for part in ("p50", "p99", "load s", "operator", "MultiHeadAttention", "█", "at p50"):
        assert part in text.getvalue()


def test_a_long_name_is_not_cut_at_eighty_columns(found: Profile) -> None:
    name = "a-very-long-name-of-a-bundle-beside-another-factored.edge"
    text = io.StringIO()
    renamed = replace(found, measured=replace(found.measured, bundle=name))
    render(renamed, Console(file=text, width=80))
    assert "…" not in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= 80


def test_operator_times_leave_out_warm_up_and_control_flow() -> None:
    runs = [{"name": "model_run", "ts": 100 * i} for i in range(5)]

    def kernel(ts: int, name: str, operator: str, micros: int) -> dict[str, object]:
        args = {"op_name": operator}
        return {"name": f"{name}_kernel_time", "ts": ts, "dur": micros, "args": args}

    events = [*runs, kernel(10, "a", "Add", 9999)]
    for start in (300, 400):
        events += [kernel(start + 1, "a", "Add", 1000), kernel(start + 2, "b", "Add", 500)]
        events += [kernel(start + 3, "c", "If", 5000), kernel(start + 4, "d", "Mul", 2000)]
    assert sum_of(events) == [
        {"name": "Mul", "nodes": 1, "mean_ms": 2.0},
        {"name": "Add", "nodes": 2, "mean_ms": 1.5},
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": [(1, 41)]}, "found 1x41, expected at least 1 text of 1 to 40 tokens"),
        ({"shapes": [(0, 8)]}, "found 0x8"),
        ({"shapes": []}, "shape: found none"),
        ({"runs": 0}, "runs: found 0, expected at least 1"),
        ({"adapter": "no"}, "adapter: found 'no', expected one of: mood"),
    ],
)
def test_what_makes_no_sense_is_refused(
    bundle: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(EdgeError, match=message):
        measure(bundle, **options)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo a; echo b >&2; kill -9 $$", "ended by SIGKILL: b; free memory, or give a smaller"),
        ("kill -9 $$", "ended by SIGKILL; free memory"),
        ("kill -6 $$", "ended by SIGABRT$"),
        ("echo Traceback >&2; echo 'OSError: no' >&2; exit 1", "failed: OSError: no$"),
        ("exit 7", "failed with exit code 7$"),
    ],
)
def test_a_measuring_process_that_dies_is_one_line(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(EdgeError, match=message) as caught:
        measure(bundle)
    assert str(caught.value).startswith(f"{bundle}: the measuring process ")
    assert "\n" not in str(caught.value)


def test_files_of_the_current_folder_stay_out_of_the_measuring_process(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("random.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    assert measure(made, [(1, 8)], runs=1).measured.load_s > 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--limit", "p50_ms=1e-6"), 3, "p50_ms"),
        (("--limit", "file_mib=1e-6", "--limit", "p99_ms=1e9"), 3, "file_mib"),
        (("--limit", "speed=1"), 2, "'speed' is not one of p50_ms"),
        (("--limit", "p50_ms=fast"), 2, "is not KEY=NUMBER"),
        (("--limit", "p50_ms=nan"), 2, "is not KEY=NUMBER"),
        (("--limit", "p99_ms=1e9"), 0, ""),
        (("--shape", "128"), 2, "is not BATCHxTOKENS"),
    ],
)
def test_limits_decide_the_exit_code(
    bundle: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    command = ["profile", "b.edge", "--shape", "1x8", "--runs", "3", *options]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert ("limit 1e-06" in result.stderr) == (code == 3)


def test_an_exceeded_limit_leaves_the_document_whole(bundle: Path) -> None:
    limit = ("--limit", "p50_ms=1e-6", "--json", "-")
    result = CliRunner().invoke(
        main, ["profile", "b.edge", "--shape", "1x8", "--runs", "3", *limit]
    )
    found = json.loads(result.stdout)["measured"]["timings"][0]["p50_ms"]
    line = f"Error: b.edge: found p50_ms {found:.4g} (limit 1e-06), expected at most the limit\n"
    assert (result.exit_code, result.stderr) == (3, line)
