"""Traces and pages as files: their form, their size, and what happens when they cannot be."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_lra.cli.common import explain
from edge_lra.errors import EdgeError
from edge_lra.profile.measurement import Memory, Sample, Span
from edge_lra.profile.report import check_html, check_target, write_html, write_trace
from edge_lra.profile.report.trace import in_turn
from edge_lra.profile.result import Profile
from tests.profile import profiles

PHASES = {  # of the Trace Event Format, with the keys each needs
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "pid", "tid", "ts", "dur", "cat"},
    "C": {"name", "pid", "ts", "args"},
    "i": {"name", "pid", "tid", "ts", "s"},
}
Event = dict[str, Any]


def trace(profile: Profile, folder: Path) -> dict[str, Any]:
    file = folder / "trace.json"
    write_trace(profile, file)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def slices(events: list[Event]) -> dict[tuple[int, int], list[Event]]:
    """Return complete events by thread in the order they began, the enclosing ones first."""
    found = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            found[event["pid"], event["tid"]].append(event)
    return {k: sorted(v, key=lambda e: (e["ts"], -e["dur"])) for k, v in found.items()}


def nesting(events: list[Event]) -> list[tuple[str, ...]]:
    """Return each slice's name with those around it; fail where two only overlap."""
    around: list[tuple[int, str]] = []
    paths = []
    for event in events:
        start, end = round(event["ts"] * 1e3), round((event["ts"] + event["dur"]) * 1e3)
        while around and around[-1][0] <= start:
            around.pop()
        assert not around or end <= around[-1][0], (event, around)
        around.append((end, event["name"]))
        paths.append(tuple(name for _, name in around))
    return paths


def test_a_trace_keeps_to_the_format(tmp_path: Path) -> None:
    found = trace(profiles.everything(), tmp_path)
    assert set(found) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert found["displayTimeUnit"] in ("ms", "ns")
    for event in found["traceEvents"]:
        assert PHASES[event["ph"]] <= set(event), event
        assert isinstance(event["pid"], int) and isinstance(event.get("tid", 0), int)
        assert event.get("ts", 0) >= 0 and event.get("dur", 0) >= 0
        if event["ph"] == "C":
            assert all(isinstance(value, float) for value in event["args"].values())
        assert event["ph"] != "i" or event["s"] in ("g", "p", "t")


def test_layers_hold_their_nodes_and_operators_stand_alone(tmp_path: Path) -> None:
    measured = profiles.measured()
    found = trace(profiles.profile(profiles.entry(measured=measured)), tmp_path)["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in found if e["name"] == "thread_name"}
    threads = {names[tid]: events for (_, tid), events in slices(found).items()}
    run = "run 1x16, under the profiler"
    layers = nesting(threads["one run by layer"])
    assert layers[:3] == [(run,), (run, "embeddings"), (run, "embeddings", measured.spans[0].name)]
    assert {path[1:] for path in layers if len(path) == 3} == {
        (span.layer, span.name) for span in measured.spans
    }
    operators = threads["one run by operator"]
    assert [path[1:] for path in nesting(operators)][1:] == [(s.operator,) for s in measured.spans]
    lasted = sum(event["dur"] for event in operators[1:])
    assert lasted == pytest.approx(sum(span.duration_us for span in measured.spans))
    start = nesting(threads["start-up"])
    stages = ("interpreter", "imports", "load", "first run")
    assert start == [("cold start",), *(("cold start", stage) for stage in stages)]
    assert threads["start-up"][0]["dur"] == pytest.approx(0.612e6)


def test_the_run_of_a_token_follows_that_of_the_prompt(tmp_path: Path) -> None:
    measured = profiles.generating()
    found = trace(profiles.profile(profiles.entry(measured=measured)), tmp_path)["traceEvents"]
    runs = [event for event in found if event.get("cat") == "run"]
    names = [f"run {of}, under the profiler" for of in ("1x16", "token after 128")]
    assert [event["name"] for event in runs] == [name for name in names for _ in range(2)]
    assert runs[0]["ts"] + runs[0]["dur"] < runs[-1]["ts"]


def test_a_process_is_a_bundle_on_a_host_and_memory_a_counter(tmp_path: Path) -> None:
    found = trace(profiles.everything(), tmp_path)
    events = found["traceEvents"]
    processes = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert processes[0] == "sentiment.edge on AMD EPYC 9R14, 2 cores, x86_64, Linux 6.1.0"
    assert processes[1].startswith("sentiment.edge on Raspberry Pi 5 (Cortex-A76")
    assert found["otherData"]["not measured"] == ["arm64"]
    memory = profiles.memory()
    rss = [e for e in events if e["name"] == "rss, MiB" and e["pid"] == 1]
    assert [e["args"]["MiB"] for e in rss] == pytest.approx(
        [sample.rss_mib for sample in memory.samples], abs=1e-3
    )
    stages = {e["name"]: e for e in events if e["ph"] == "X" and e["pid"] == 1}
    assert rss[0]["ts"] == stages["load"]["ts"]  # the timeline begins when imports are done
    marks = {e["name"] for e in events if e["ph"] == "i"}
    assert marks == {mark.name for mark in memory.marks}


def test_spans_that_rounding_made_overlap_are_cut() -> None:
    spans = [Span("a", "A", "0", 0, 11), Span("b", "B", "0", 10, 5), Span("c", "C", "0", 15, 5)]
    found = in_turn(spans)
    assert [(p.span.name, p.end_us, p.depth) for p in found] == [
        ("a", 10, 0), ("b", 15, 0), ("c", 20, 0)
    ]  # fmt: skip


def test_nodes_of_a_subgraph_lie_in_the_node_that_runs_it(tmp_path: Path) -> None:
    spans = (
        Span("if", "If", "layer 0", 0, 100),
        Span("inside", "Add", "layer 1", 10, 20),
        Span("after", "Add", "layer 1", 110, 20),
    )
    measured = profiles.measured(spans=spans, timings=())
    found = trace(profiles.profile(profiles.entry(measured=measured)), tmp_path)["traceEvents"]
    paths = nesting(slices(found)[1, 3])
    run = "run one run, under the profiler"
    assert (run, "layer 0", "if", "layer 1", "inside") in paths
    assert (run, "layer 1", "after") in paths


@pytest.mark.parametrize("parts", [("estimated",), ("emulated",), ("emulated", "estimated")])
def test_what_was_not_measured_gets_no_trace(parts: tuple[str, ...], tmp_path: Path) -> None:
    made = {part: getattr(profiles, part)() for part in parts}
    file = tmp_path / "trace.json"
    with pytest.raises(EdgeError, match="Raspberry Pi 5, expected a measurement") as caught:
        write_trace(profiles.profile(profiles.entry(device="pi5", **made)), file)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# ---- pages ---------------------------------------------------------------------------------


def test_the_page_of_many_long_measurements_is_below_a_megabyte(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    samples = tuple(Sample(i / 100, 50 + random.random(), 40.0) for i in range(30_000))
    memory = Memory(92.1, 90.0, 44.0, samples=samples, marks=profiles.memory().marks)
    timings = tuple(profiles.timing((1, n), 6.2, runs=1000) for n in (16, 32, 64, 128))
    long = profiles.measured(memory=memory, timings=timings)
    entries = [profiles.entry(f"bundle-{i}.edge", measured=long) for i in range(8)]
    file = tmp_path / "page.html"
    write_html(profiles.profile(*entries), file)
    assert file.stat().st_size < 1_000_000


def test_the_page_names_nothing_outside_itself(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_html(profiles.everything(), file)
    text = file.read_text()
    assert "default-src 'none'" in text
    places = re.findall(r"""(?:src|href|action|srcset|url)\s*[=(]\s*["']?([^"')>\s]+)""", text)
    assert places and all(re.match(r"#|data:,$", place) for place in places)
    assert "@import" not in text and "<script" not in text


def test_a_page_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_html(profiles.everything(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_missing_jinja2_is_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        check_html(tmp_path / "page.html")
    assert explain(caught.value).message == (
        'jinja2: is not installed; pip install "edge-lra[report]"'
    )


# ---- places --------------------------------------------------------------------------------


def test_a_place_that_holds_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = {
        tmp_path: "found a folder",
        tmp_path / "none" / "page.html": "found no folder",
        tmp_path / "file" / "page.html": "found no folder",
    }
    if sys.platform == "linux":
        places |= {
            Path("/dev/null"): "found a device",
            Path("/proc/page.html"): "expected a place for a file",
        }
    for place, found in places.items():
        with pytest.raises(EdgeError, match=re.escape(f"{place}: found")) as caught:
            check_target(place)
        assert found in str(caught.value) and "\n" not in str(caught.value)


def test_a_check_leaves_nothing_and_changes_nothing(tmp_path: Path) -> None:
    old = tmp_path / "page.html"
    old.write_text("old")
    check_target(old)
    check_target(tmp_path / "new.html")
    check_target(tmp_path / ("n" * 250 + ".html"))
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert old.read_text() == "old"


def test_a_file_is_whole_or_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "page.html"
    old.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_html(profiles.everything(), old)
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


def test_a_link_stays_one_and_its_file_changes(tmp_path: Path) -> None:
    link, file = tmp_path / "link.html", tmp_path / "page.html"
    file.write_text("old")
    link.symlink_to(file)
    write_html(profiles.everything(), link)
    assert link.is_symlink() and "<!doctype html>" in file.read_text()
