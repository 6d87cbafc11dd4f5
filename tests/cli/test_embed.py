"""`edge-lra embed`: its JSON, what a person reads at 80 columns, and its refusals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_lra.bundle import load_manifest
from edge_lra.cli import main
from edge_lra.embed import platforms
from edge_lra.embed.platforms import PLATFORMS
from tests.cli.documents import document

Refused = Callable[..., str]
TO = ("--platform", "cpp", "--out", "app")


@pytest.fixture(scope="module")
def made(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a factored bundle without golden cases."""
    out = tmp_path_factory.mktemp("bundle") / "mood.edge"
    sources = ("--model", str(tiny_made / "model"), "--adapter", str(tiny_made / "adapter"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)
        options = ("--factored", "--no-verify", "--out", str(out))
        result = CliRunner().invoke(main, ["export", *sources, *options])
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture
def bundle(made: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the bundle `mood.edge` in the current folder; one source stands for each runner."""
    for platform in PLATFORMS.values():
        for sources in platform.sources:
            name = sources.patterns[-1].replace("*", "x")
            file = tmp_path / "data" / sources.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}")
    monkeypatch.setattr(platforms, "data_folder", lambda kind: tmp_path / "data")
    monkeypatch.setenv("COLUMNS", "80")
    return Path(shutil.copytree(made, tiny / "mood.edge")).relative_to(tiny)


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["embed", *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_person_reads_places_sizes_and_code_at_80_columns(bundle: Path, platform: str) -> None:
    text = shown("mood.edge", "--platform", platform, "--out", "app")
    assert max(map(len, text.splitlines())) <= 80, text
    assert f"bundle    {PLATFORMS[platform].bundles}/mood.edge" in text
    assert "EDGE_LRA.md" in text and "mood.edge" in text and '"adapter"' in text
    page = Path("app/EDGE_LRA.md").read_text()
    (code,) = page.split("```")[1:-1]
    assert code.split("\n", 1)[1].strip() in text


def test_a_split_and_converted_bundle_is_told_of(bundle: Path) -> None:
    text = shown("mood.edge", *TO, "--split", "--ort")
    assert "adapters  models/mood-adapters  (what an update replaces)" in text
    assert "needs     mood.operators.config" in text and "--minimal_build" in text
    text = shown("mood.edge", *TO, "--split", "--ort")
    assert "the base is the last run's: publish these alone" in text


@pytest.mark.parametrize("options", [(), ("--split",), ("--ort",), ("--split", "--ort")])
def test_its_json_keeps_to_the_schema(bundle: Path, options: tuple[str, ...]) -> None:
    found = document("embed", "mood.edge", *TO, *options)
    assert (found["ort"] is not None, found["adapters"] is not None) == (
        "--ort" in options,
        "--split" in options,
    )
    assert all((Path("app") / name).is_file() for name in found["written"])
    assert set(found["total_bytes"]) == {"Linux x64", "Linux arm64"}
    size = sum(entry["size"] for entry in load_manifest(bundle)["files"].values())
    own = sum(part["bytes"] for part in found["sizes"] if part["source"] == "this bundle")
    assert "--ort" in options or own > size


def test_a_converted_bundle_runs_and_is_profiled_as_it_was(bundle: Path, refused: Refused) -> None:
    shown("mood.edge", *TO, "--ort")
    found = "app/models/mood.edge"
    assert document("run", found, "--text", "a film")["results"]
    assert CliRunner().invoke(main, ["verify", found]).exit_code == 0
    for options in ((), ("--estimate",)):
        assert "found no model.onnx, expected the graph" in refused("profile", found, *options)


def test_the_bundle_written_last_is_embedded(bundle: Path) -> None:
    Path(".edge-lra-last").write_text(str(bundle.resolve()))
    shown(*TO)
    assert load_manifest(Path("app/models/mood.edge"))


def test_mistakes_are_one_line(bundle: Path, refused: Refused) -> None:
    assert "--platform" in refused("embed", "mood.edge", "--out", "app", code=2)
    unknown = ("--platform", "symbian", "--out", "app")
    assert "'symbian' is not one of android" in refused("embed", "mood.edge", *unknown, code=2)
    assert "found no manifest.json" in refused("embed", "model", *TO)
    Path("app/models").mkdir(parents=True)
    Path("app/models/mood.edge").write_text("mine")
    assert "app: found models/mood.edge/" in refused("embed", "mood.edge", *TO)
    (bundle / "model.onnx.data").write_bytes(b"")
    line = refused("embed", "mood.edge", "--platform", "js", "--out", "app")
    assert "model.onnx.data: found it missing or cut" in line
