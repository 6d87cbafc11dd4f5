"""Real profiles of a bundle of a few kilobytes, and targets that drop."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edge_lra.cli import main
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile import measure, measure_on
from edge_lra.profile.compare import compare_on
from edge_lra.profile.measurement import Measurement
from edge_lra.profile.memory import PACKED, UNTOLD, split_parts
from edge_lra.profile.plan import Plan
from edge_lra.profile.result import Profile
from edge_lra.transport.local import Local


@pytest.fixture(scope="module")
def made(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profile") / "b.edge"
    adapters = [("mood", tiny_made / "adapter"), ("tone", tiny_made / "adapter")]
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
        return measure(made, [(1, 8), (2, 30)], runs=20, against=made, sweep=(1, 2))


@pytest.fixture(scope="module")
def one(found: Profile) -> Measurement:
    measured = found.entries[0].measured
    assert measured is not None
    return measured


def test_an_entry_says_what_ran_and_where(found: Profile, made: Path) -> None:
    assert len(found.entries) == 2
    entry = found.entries[0]
    assert (entry.adapter, entry.mode, entry.scheme, entry.device) == (
        "mood",
        "factored",
        "int8",
        "host",
    )
    sizes = {p.name: p.stat().st_size for p in made.rglob("*") if p.is_file()}
    assert {Path(n).name: size for n, size in entry.file_bytes.items()} == sizes
    assert entry.measured is not None and entry.measured.host["cpu"] == entry.device_title


def test_latencies_are_those_of_the_shapes(one: Measurement) -> None:
    assert [timing.shape for timing in one.timings] == [(1, 8), (2, 30)]
    for timing in one.timings:
        assert len(timing.latencies_ms) == 20 and min(timing.latencies_ms) > 0
        for percent in (50, 90, 95, 99):
            expected = np.percentile(timing.latencies_ms, percent)
            assert timing.percentile_ms(percent) == pytest.approx(expected)


def test_a_start_holds_its_stages(one: Measurement) -> None:
    start = one.start
    assert start.cold_s is not None
    assert start.cold_s > start.imports_s > start.load_s > 0
    assert 0 < start.first_run_ms < 1e3 * start.cold_s


def test_memory_parts_sum_to_the_share_of_the_bundle(one: Measurement) -> None:
    memory = one.memory
    assert memory.peak_rss_mib >= memory.steady_rss_mib > memory.model_rss_mib > 0
    assert sum(memory.parts_mib.values()) == pytest.approx(memory.model_rss_mib)
    assert memory.parts_mib["library code"] > 1  # onnxruntime's kernels are read as they run
    assert min(memory.parts_mib.values()) >= 0
    assert memory.planned_activations_mib is not None and memory.planned_activations_mib > 0
    assert memory.steady_pss_mib is not None and memory.steady_pss_mib <= memory.steady_rss_mib


def test_the_timeline_runs_from_imports_to_steady(one: Measurement) -> None:
    memory = one.memory
    assert [mark.name for mark in memory.marks] == ["imports", "loaded", "first run", "steady"]
    seconds = [sample.second for sample in memory.samples]
    assert seconds == sorted(seconds) and len(seconds) > 4
    assert max(sample.rss_mib for sample in memory.samples) <= memory.peak_rss_mib + 1
    at = {sample.second: sample for sample in memory.samples}
    assert all(at[mark.second].pss_mib is not None for mark in memory.marks)


def test_operators_layers_switch_and_threads_are_there(one: Measurement) -> None:
    assert {"MultiHeadAttention"} < {operator.name for operator in one.operators}
    assert [layer.name for layer in one.layers] == ["embeddings", "layer 0", "layer 1", "head"]
    assert {span.layer for span in one.spans} == {layer.name for layer in one.layers}
    assert one.switch_ms is not None and one.switch_ms > 0
    assert [row.threads for row in one.sweep] == [1, 2]
    assert one.complete


def test_a_bundle_against_itself_is_neither_faster_nor_slower(found: Profile) -> None:
    assert [ratio.shape for ratio in found.ratios] == [(1, 8), (2, 30)]
    for ratio in found.ratios:
        assert ratio.interval[0] <= ratio.ratio <= ratio.interval[1]
        assert 0.5 < ratio.ratio < 2


def test_a_profile_is_json(found: Profile) -> None:
    document = json.loads(json.dumps(found.to_json()))
    assert document["entries"][0]["measured"]["memory"]["shape"] in ([1, 8], [2, 30])


class Dropping(Local):
    """A target that drops at the n-th request."""

    def __init__(self, drops_at: int, back_at: int = 99) -> None:
        super().__init__()
        self.drops_at, self.back_at, self.asked = drops_at, back_at, 0

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if self.drops_at <= self.asked < self.back_at:
            raise EdgeError("board: the connection was lost; is it on?")
        return super().run(request)


PLAN = Plan(((1, 8), (2, 30)), runs=3, sweep=(1,))


def test_what_a_dropped_target_gave_is_kept_and_marked(bundle: Path) -> None:
    target = Dropping(drops_at=3)  # a probe, the first shape, and no more
    kept = measure_on(target, str(bundle), PLAN)
    assert not kept.complete
    assert [timing.shape for timing in kept.timings] == [(1, 8)]
    assert kept.start.cold_s is None and kept.start.load_s > 0
    assert kept.operators == () and kept.sweep == ()
    assert PACKED in kept.warnings
    for name in ("2x30", "cold start", "operators", "memory by part", "threads"):
        assert sum(line.startswith(f"{name} is missing: ") for line in kept.warnings) == 1
    assert target.asked == 4  # two in a row are enough to give up


def test_one_lost_answer_does_not_end_the_rest(bundle: Path) -> None:
    kept = measure_on(Dropping(drops_at=3, back_at=4), str(bundle), PLAN)
    assert not kept.complete and len(kept.timings) == 1
    assert kept.start.cold_s is not None and kept.operators and kept.sweep


class Watched(Local):
    """A device whose system tells more of the process than the process does."""

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        seen = {"process_mib": {"peak_rss": 1e6, "meminfo_pss": 7.0}}
        return super().run(request) | (seen if request["what"] == "measure" else {})


def test_memory_that_the_system_saw_from_outside_counts(bundle: Path) -> None:
    memory = measure_on(Watched(), str(bundle), PLAN).memory
    assert memory.peak_rss_mib == 1e6 and memory.steady_pss_mib == 7


def test_a_target_that_never_answers_is_an_error(bundle: Path) -> None:
    with pytest.raises(EdgeError, match="the connection was lost"):
        measure_on(Dropping(drops_at=2), str(bundle), PLAN)


def test_a_comparison_keeps_the_shapes_it_has(bundle: Path) -> None:
    kept = compare_on(Dropping(drops_at=2), (str(bundle), str(bundle)), PLAN)
    assert not kept.complete and [ratio.shape for ratio in kept.ratios] == [(1, 8)]
    assert [len(taken) for taken in kept.taken] == [1, 1]
    assert "2x30 in turns is missing: board" in kept.warnings[0]


def test_an_emulator_is_not_measured(bundle: Path) -> None:
    emulator = Local()
    emulator.keeps_time = False
    with pytest.raises(EdgeError, match="found an emulator, expected a device"):
        measure_on(emulator, str(bundle), PLAN)


def test_stages_are_told_as_they_begin(bundle: Path) -> None:
    stages: list[str] = []
    measure_on(Local(), str(bundle), Plan(((1, 8),), runs=1), progress=stages.append)
    assert stages == ["1x8", "cold start", "operators", "memory by part"]


SPLIT = {
    "imported_anonymous_mib": 20.0,
    "imported_file_mib": 30.0,
    "loaded_anonymous_mib": 34.0,
    "ended_anonymous_mib": 40.0,
    "ended_file_mib": 48.0,
    "mapped_mib": 8.0,
}


def test_parts_are_what_was_added_and_sum_to_the_share() -> None:
    assert split_parts(40.0, SPLIT, 3.0) == (
        {
            "mapped weights": 8.0,
            "library code": 10.0,
            "prepacked copies": 11.0,
            "arena": 6.0,
            "other": 5.0,
        },
        (),
    )


def test_what_cannot_be_told_apart_is_said() -> None:
    parts, doubt = split_parts(40.0, SPLIT, None)
    assert parts["other"] == 16.0 and "prepacked copies" not in parts and doubt == (PACKED,)
    assert split_parts(40.0, None, 3.0) == ({"other": 40.0}, (UNTOLD,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": [(1, 41)]}, "found 1x41, expected at least 1 text of 1 to 40 tokens"),
        ({"shapes": [(0, 8)]}, "found 0x8"),
        ({"shapes": []}, "shape: found none"),
        ({"runs": 0}, "runs: found 0, expected at least 1"),
        ({"sweep": [1, 0]}, "sweep: found 0, expected at least 1"),
        ({"budget_s": 0}, "budget_s: found 0, expected more than 0 seconds"),
        ({"adapter": "no"}, "adapter: found 'no', expected one of: mood"),
    ],
)
def test_what_makes_no_sense_is_refused(
    bundle: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(EdgeError, match=message):
        measure(bundle, **options)  # type: ignore[arg-type]


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
    request = {"what": "measure", "bundles": [str(bundle)]}
    with pytest.raises(EdgeError, match=message) as caught:
        Local().run(request)
    assert str(caught.value).startswith(f"{bundle}: the measuring process ")
    assert "\n" not in str(caught.value)


def test_files_of_the_current_folder_stay_out_of_the_measuring_process(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("random.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    found = measure(made, [(1, 8)], runs=1).entries[0].measured
    assert found is not None and found.complete


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
    command = ["profile", "b.edge", "--shape", "1x8", "--runs", "3", "--json", "-", *options]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert ("limit 1e-06" in result.stderr) == (code == 3)


def test_an_exceeded_limit_leaves_the_document_whole(bundle: Path) -> None:
    limit = ("--limit", "p50_ms=1e-6", "--json", "-")
    result = CliRunner().invoke(
        main, ["profile", "b.edge", "--shape", "1x8", "--runs", "3", *limit]
    )
    entry = json.loads(result.stdout)["entries"][0]
    p50 = entry["measured"]["timings"][0]["p50_ms"]
    assert result.exit_code == 3
    assert f"b.edge on {entry['device_title']}: found p50_ms {p50:.4g} (limit 1e-06)" in (
        result.stderr
    )
