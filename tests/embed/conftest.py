"""Bundles of a few kilobytes, and sources that stand in for the runners'."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_lra.embed import platforms
from edge_lra.pipeline import ExportRequest, export
from edge_lra.resources import data_folder

SOURCES = {
    "android/edgelra/build.gradle.kts": "android {}",
    "android/edgelra/src/main/java/org/edgelra/EdgeRunner.java": "class EdgeRunner {}",
    "android/edgelra/src/androidTest/java/Test.java": "class Test {}",
    "android/edgelra/build/out.aar": "output",
    "cpp/CMakeLists.txt": "project(edge_lra)",
    "cpp/include/edge_lra.h": "#pragma once",
    "cpp/src/runner.cpp": "int x;",
    "cpp/fuzz/json.cpp": "int y;",
    "ios/Package.swift": "// swift",
    "ios/Sources/EdgeLRA/EdgeRunner.swift": "actor EdgeRunner {}",
    "ios/.build/out.o": "output",
    "js/package.json": '{"name": "edge-lra", "devDependencies": {"typescript": "7", "web": "1"}}',
    "js/package-lock.json": "{}",
    "js/tsconfig.json": "{}",
    "js/src/index.ts": "export {};",
    "js/src/sources/node.ts": "export {};",
    "js/node_modules/x/index.ts": "not ours",
    "js/dist/index.js": "output",
}


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a runtime/ with a few files for every platform, and what builds leave."""
    root = tmp_path / "runtime"
    for name, text in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(platforms, "data_folder", lambda kind: tmp_path / kind)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


@pytest.fixture
def real_sources(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed the sources of this checkout."""
    monkeypatch.setattr(platforms, "data_folder", data_folder)


@pytest.fixture(scope="session")
def made_factored(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a proven bundle with two adapters."""
    folder = tmp_path_factory.mktemp("embedded")
    shutil.copytree(tiny_made / "adapter", folder / "other")
    adapters = [("mood", tiny_made / "adapter"), ("other", folder / "other")]
    model = str(tiny_made / "model")
    return export(ExportRequest(folder / "mood.edge", model, adapters, mode="factored"))


@pytest.fixture(scope="session")
def made_merged(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a proven bundle of the same name, its adapter merged."""
    folder = tmp_path_factory.mktemp("embedded")
    adapters = [("mood", tiny_made / "adapter")]
    return export(ExportRequest(folder / "mood.edge", str(tiny_made / "model"), adapters))


@pytest.fixture
def bundle(made_factored: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle with adapters, to be changed."""
    return Path(shutil.copytree(made_factored, tmp_path / "made/mood.edge"))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return an app's folder with files of its own."""
    folder = tmp_path / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "src/main.c").write_text("int main() {}")
    (folder / "README.md").write_text("mine")
    return folder
