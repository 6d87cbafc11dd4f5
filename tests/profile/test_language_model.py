"""A random language model of a few kilobytes, profiled as a person and a script do it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_lra.cli import main
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile import measure
from edge_lra.profile.bundles import default_contexts, default_shapes
from tests.cli.documents import validator
from tests.runner.tiny_decoder import (
    CONTEXT,
    HEAD,
    KV_HEADS,
    LAYERS,
    random_adapter,
    random_llama,
    write_bundle,
)

SHORT = ("--shape", "2x16", "--context", "8", "--context", "40", "--runs", "3")
FACTORS = {name: random_adapter(random_llama(), 4, seed) for seed, name in enumerate("ab")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("language")
    write_bundle(made / "m.edge", random_llama(), scheme="none")
    write_bundle(made / "f.edge", random_llama(), FACTORS, scheme="none")
    return made


@pytest.fixture(autouse=True)
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def profile(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["profile", *arguments])


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    """Return the profile of a factored bundle beside a merged one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        options = ("--adapter", "b", "--against", "m.edge", "--json", "-")
        result = profile("f.edge", *SHORT, *options)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_document_is_what_the_schema_says(document: dict[str, Any]) -> None:
    validator("profile").validate(document)
    for entry in document["entries"]:
        measured = entry["measured"]
        assert [row["shape"] for row in measured["timings"]] == [[2, 16]]
        assert [row["context"] for row in measured["decoding"]] == [8, 40]
        for row in measured["decoding"]:
            assert row["runs"] == 3 and row["tokens_per_s"] == 1e3 / row["p50_ms"]
    assert [ratio["context"] for ratio in document["ratios"]] == [None, 8, 40]


def test_an_adapter_is_that_of_the_factored_bundle_of_a_pair(document: dict[str, Any]) -> None:
    assert [entry["adapter"] for entry in document["entries"]] == ["b", None]
    factored, merged = (entry["measured"]["switch_ms"] for entry in document["entries"])
    assert factored > 0 and merged is None


def test_keys_and_values_are_those_of_the_contexts(document: dict[str, Any]) -> None:
    token_mib = 2 * 4 * LAYERS * KV_HEADS * HEAD / 2**20
    caches = document["entries"][0]["measured"]["memory"]["caches"]
    filled = {row["context"]: row["mib"] for row in caches}
    assert filled == pytest.approx({8: 8 * token_mib, 40: 40 * token_mib})


def test_latencies_that_give_way_to_those_in_turns_are_not_doubted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, said in (("measure", "alone"), ("compare", "in turns")):
        doubted = sys.modules[f"edge_lra.profile.{module}"]
        monkeypatch.setattr(doubted, "doubts", lambda *_, said=said: [said])
    found = measure(folder / "m.edge", [(1, 8)], runs=1, against=folder / "f.edge", contexts=[8])
    for entry in found.entries:
        assert entry.measured is not None
        assert "in turns" in entry.measured.warnings
        assert "alone" not in entry.measured.warnings


def test_where_the_time_of_a_token_goes_is_told_beside_that_of_a_prompt(
    document: dict[str, Any],
) -> None:
    measured = document["entries"][1]["measured"]
    assert measured["step"]["context"] == 8
    for found in (measured, measured["step"]):
        nodes = {row["name"]: row["nodes"] for row in found["operators"]}
        assert nodes["GroupQueryAttention"] == LAYERS


@pytest.mark.parametrize(
    ("limits", "code", "message"),
    [
        (("decode_ms=1e9", "tokens_per_s=1e-9"), 0, ""),
        (("decode_ms=1e-9",), 3, "found decode_ms "),
        (("tokens_per_s=1e12",), 3, "(at least 1e+12)"),
    ],
)
def test_limits_on_tokens_decide_the_exit_code(
    limits: tuple[str, ...], code: int, message: str
) -> None:
    options = [word for limit in limits for word in ("--limit", limit)]
    result = profile("m.edge", "--shape", "1x8", "--context", "8", "--runs", "2", *options)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert "token after 8" in result.stdout and "tokens/s" in result.stdout


@pytest.mark.parametrize("option", [("--limit", "tokens_per_s=5"), ("--limit", "decode_ms=5")])
def test_limits_on_tokens_are_refused_for_what_generates_none(
    tiny_made: Path, tmp_path: Path, option: tuple[str, str]
) -> None:
    request = ExportRequest(tmp_path / "e.edge", str(tiny_made / "model"), [], verify=False)
    result = profile(str(export(request)), *option)
    name = option[1].partition("=")[0]
    assert result.exit_code == 1 and f"limit {name}: found " in result.stderr
    assert "which generates no text" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--estimate",), "m.edge: found a language model to estimate for this machine"),
        (("--device", "rpi5", "--estimate"), "to estimate for Raspberry Pi 5"),
        (("--context", str(CONTEXT)), f"context: found {CONTEXT}, expected 1 to {CONTEXT - 1}"),
        (("--shape", f"1x{CONTEXT + 1}"), f"shape: found 1x{CONTEXT + 1}"),
        (("--adapter", "a"), "adapter: found 'a' for m.edge, expected a factored bundle"),
        (("--device", "rpi5", "--context", "8"), "--context: found only devices that are emulated"),
    ],
)
def test_what_cannot_be_told_is_refused_before_any_work(
    options: tuple[str, ...], message: str
) -> None:
    result = profile("m.edge", *options)
    assert result.exit_code == 1 and message in result.stderr
    assert result.stdout == ""


def test_an_adapter_that_the_factored_bundle_lacks_is_refused() -> None:
    result = profile("m.edge", "--against", "f.edge", "--adapter", "c")
    assert result.exit_code == 1 and "found 'c', expected one of: a, b" in result.stderr


def test_a_context_is_as_long_as_leaves_room_for_the_next_token(folder: Path) -> None:
    assert default_contexts([folder / "m.edge"]) == (CONTEXT - 1,)
    assert default_shapes([folder / "m.edge"]) == ((1, CONTEXT),)
