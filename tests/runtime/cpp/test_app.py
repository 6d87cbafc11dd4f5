"""An app in C finds the installed library, builds with all warnings and keeps its memory."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.runtime.cpp.apps import build_app
from tests.runtime.cpp.places import SOURCES, TOOL, library_of, run_program
from tests.runtime.cpp.soaking import check_growth, soak

LARGEST_TOOL = 400_000  # bytes, stripped


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_app("x64", tmp_path_factory.mktemp("x64"))


def test_an_app_in_cpp_finds_the_package(app: Path, tiny_whole: Path) -> None:
    done = run_program(app / "hello", tiny_whole, library_of())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["adapters"] == ["one", "two"]


def test_the_environment_names_the_library(app: Path, tiny_whole: Path) -> None:
    done = run_program(
        app / "hello", tiny_whole, environment={"ONNXRUNTIME_LIB": str(library_of("1.20.0"))}
    )
    assert json.loads(done.stdout)["onnxruntime"] == "1.20.0"


def test_usual_names_of_the_library_are_tried(app: Path, tiny_whole: Path, tmp_path: Path) -> None:
    done = run_program(app / "hello", tiny_whole)
    assert done.returncode == 1 and "found no library that loads as libonnx" in done.stderr
    (tmp_path / "libonnxruntime.so.1").symlink_to(library_of())
    done = run_program(app / "hello", tiny_whole, environment={"LD_LIBRARY_PATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr


def test_nothing_is_written_below_the_home(app: Path, tiny_whole: Path, tmp_path: Path) -> None:
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    done = run_program(app / "soak", tiny_whole, library_of(), 3, 1, environment=places)
    assert done.returncode == 0, done.stderr
    left = {path.relative_to(tmp_path).parts[:3] for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {(".cache", "edge-lra", "checked")}


def test_runs_and_openings_leave_no_memory_behind(app: Path, tiny_whole: Path) -> None:
    check_growth(soak(app / "soak", tiny_whole, 50_000, 200), 200)


def test_a_thousand_runs_are_clean_under_sanitizers(
    tiny_whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    built = build_app("sanitize", tmp_path_factory.mktemp("sanitize"))
    done = run_program(built / "soak", tiny_whole, library_of(), 1000, 10)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""


def test_the_stripped_program_is_small(tmp_path: Path) -> None:
    done = run_program("strip", "-o", tmp_path / "stripped", TOOL)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "stripped").stat().st_size < LARGEST_TOOL


def test_the_library_exports_its_interface_alone() -> None:
    done = run_program(
        "nm", "-D", "--defined-only", "--extern-only", TOOL.with_name("libedge_lra.so")
    )
    names = {line.split()[-1] for line in done.stdout.splitlines()}
    header = (SOURCES / "include/edge_lra.h").read_text()
    declared = re.findall(r"^EDGE_LRA_API .*?(edge_lra_\w+)\(", header, re.MULTILINE)
    assert names == set(declared)
