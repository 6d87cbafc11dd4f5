"""A profile answers what the agent answers, and serves `edge-lra profile --target adb:`."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_lra.agent.measure import measure
from edge_lra.cli import main
from edge_lra.transport import Adb
from edge_lra.transport.adb import runner_options
from tests.agent.asked import request_of
from tests.runtime.cpp.abi import Bundle, Refused
from tests.runtime.cpp.conftest import LONG_CONTEXT
from tests.runtime.cpp.places import TOOL, ask_tool, call_tool, library_of
from tests.transport.test_adb import FAKE, Phone


def answer_of(folder: Path, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tool's answer to a request of the agent, and the agent's own."""
    request = request_of(folder, **fields)
    del request["sweep"]
    verb, *options = runner_options(request)
    return ask_tool(verb, *options), measure(request)


def keys_of(value: Any) -> Any:
    """Return the keys of a document, and the kinds of its values."""
    if isinstance(value, dict):
        return {key: keys_of(value[key]) for key in value if key != "summary"}
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.mark.parametrize("switch", [True, False])
@pytest.mark.parametrize("name", ["merged", "factored"])
def test_the_answer_has_the_keys_of_the_agent_s(
    name: str, switch: bool, request: pytest.FixtureRequest
) -> None:
    found, expected = answer_of(request.getfixturevalue(name), switch=switch, runs=6)
    assert keys_of(found) == keys_of(expected)
    assert len(found["latencies_ms"][0]) == 6
    assert found["adapters"] == expected["adapters"]
    assert [name for name, _ in found["memory"]["marks"]] == [
        name for name, _ in expected["memory"]["marks"]
    ]


@pytest.mark.parametrize("context", [None, 300])
@pytest.mark.parametrize("kind", ["merged", "factored"])
def test_a_language_model_s_answer_counts_its_cache_as_the_agent_does(
    long_decoders: dict[str, Path], kind: str, context: int | None
) -> None:
    fields = {"shape": [2, 270], "context": context}
    found, expected = answer_of(long_decoders[kind], **fields, switch=True)
    assert keys_of(found) == keys_of(expected)
    found, expected = answer_of(long_decoders[kind], **fields)
    assert found["cache"] == expected["cache"]


def test_figures_are_plausible(merged: Path) -> None:
    found = ask_tool("profile", "--threads", 1, "--budget-s", 1, merged)
    latencies, memory = found["latencies_ms"][0], found["memory"]
    assert len(latencies) >= 5
    assert 0.3 < found["busy"] <= 1.01
    assert (
        0 < found["summary"]["min_ms"] <= found["summary"]["p50_ms"] <= found["summary"]["p99_ms"]
    )
    assert found["summary"]["runs"] == len(latencies)
    assert memory["peak_rss_mib"] >= max(rss for _, rss, _ in memory["samples"]) - 1
    assert memory["split"]["mapped_mib"] > 5  # the weights are mapped, not copied
    assert 20 < memory["peak_rss_mib"] < 200
    assert found["load_s"] > 0 and found["imports_s"] > 0 and found["first_run_ms"] > 0


def test_a_measured_runner_keeps_its_adapter(factored: Path) -> None:
    bundle = Bundle(factored, threads=1)
    bundle.set_adapter(None)
    found = bundle.profile(batch=1, tokens=8, runs=3, warmup=-1, measure_switch=1)
    assert found["adapters"] == ["sentiment"] and found["switch_ms"] >= 0
    assert bundle.describe()["default_adapter"] is None
    bundle.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shape", "4x1048576"], "inputs: found 1048576 tokens, expected at most 512"),
        (["--shape", "4x1048577"], "shape: found 4x1048577"),
        (["--shape", "1000000x1"], "shape: found 1000000x1"),
        (["--context", "8"], "which generates no text"),
        (["--adapter", "other"], None),
        (["--threads", "1025"], "threads: found 1025, expected 1 to 1024"),
        (["--budget-s", "1e9"], "found runs 1, budget_s 1e+09"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    merged: Path, words: list[str], said: str | None
) -> None:
    done = call_tool("profile", "--json", "--runs", 1, *words, merged)
    if said is None:  # as the agent: the adapter is in the weights, and there is none to pick
        assert done.returncode == 0
        return
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("Error: ") and said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["--shape", f"1x{LONG_CONTEXT + 1}"], ["--context", str(LONG_CONTEXT)]]
)
def test_a_context_that_is_too_long_is_refused(
    long_decoders: dict[str, Path], words: list[str]
) -> None:
    done = call_tool("profile", "--json", "--runs", 1, *words, long_decoders["merged"])
    assert done.returncode == 1
    assert f"tokens: found {LONG_CONTEXT + 1}, expected at most {LONG_CONTEXT}" in done.stderr


def test_odd_options_of_a_profile_are_refused(tiny_whole: Path) -> None:
    bundle = Bundle(tiny_whole)
    for options in ({"runs": -1}, {"budget_s": -1.0}, {"batch": -1}, {"tokens": 9}, {"choice": 1}):
        with pytest.raises(Refused) as raised:
            bundle.profile(**{"runs": 1, **options})
        assert raised.value.code == "invalid_argument"
    bundle.close()


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """Return a device as adb shows it, whose runner is the real one."""
    phone = Phone(tmp_path / "phone")
    programs, runner = tmp_path / "programs", tmp_path / "runner"
    programs.mkdir()
    runner.mkdir()
    adb = programs / "adb"
    adb.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))} "$@"\n')
    adb.chmod(0o755)
    shutil.copy(TOOL, runner / "edge-lra-run")
    shutil.copy(library_of(), runner / "libonnxruntime.so")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_ADB_ROOT", str(phone.root))
    monkeypatch.setenv("FAKE_ADB_DEVICES", "SER1AL\tdevice")
    monkeypatch.setenv("EDGE_LRA_ANDROID_RUNNER", str(runner))
    return phone


def test_a_profile_over_adb_is_the_native_runner_s(
    phone: Phone, factored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "profile.json"
    words = ["profile", str(factored), "--target", "adb:", "--shape", "1x16", "--runs", "5"]
    done = CliRunner().invoke(main, [*words, "--json", str(out)])
    assert done.exit_code == 0, done.output
    (entry,) = json.loads(out.read_text())["entries"]
    (timing,) = entry["measured"]["timings"]
    assert timing["runs"] == 5 and timing["p50_ms"] > 0
    assert entry["measured"]["transport"] == "adb" and entry["measured"]["start"]["load_s"] > 0
    assert phone.left() == []


def test_a_language_model_s_profile_over_adb_times_its_tokens(
    phone: Phone, long_decoders: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "profile.json"
    folder = str(long_decoders["merged"])
    words = ["profile", folder, "--target", "adb:", "--shape", "1x16", "--context", "64"]
    done = CliRunner().invoke(main, [*words, "--runs", "5", "--json", str(out)])
    assert done.exit_code == 0, done.output
    (entry,) = json.loads(out.read_text())["entries"]
    (step,) = entry["measured"]["decoding"]
    assert (step["context"], step["runs"]) == (64, 5)


def test_a_mistake_over_adb_is_one_line(phone: Phone, merged: Path) -> None:
    adb = Adb("adb:")
    request = request_of(merged, bundles=[adb.push(merged)], shape=[1, 4096])
    del request["sweep"]
    with pytest.raises(Exception, match="inputs: found 4096 tokens, expected at most 512"):
        adb.run(request)
    adb.clean_up()
    assert phone.left() == []
