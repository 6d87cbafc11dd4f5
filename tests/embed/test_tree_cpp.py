"""The C++ runner, embedded: a CMake project that is whole, and code that answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_lra.embed import EmbedRequest, embed
from edge_lra.runner import Runner
from tests.embed.trees import ROOT, done
from tests.runtime.cpp.places import SHARED, SOURCES, library_of

pytestmark = pytest.mark.usefixtures("real_sources")
HEADERS = ROOT / ".cache/cpp/include"
CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(app LANGUAGES C CXX)
set(CMAKE_CXX_STANDARD 17)
add_subdirectory(third_party/edge-lra)
add_executable(app app.cpp)
target_link_libraries(app PRIVATE edge_lra)
"""


def test_the_cmake_project_is_whole_and_the_one_that_make_compiles(bundle: Path, app: Path) -> None:
    embed(EmbedRequest(bundle, "cpp", app))
    tree = app / "third_party/edge-lra"
    there = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file()}
    tools = ("fuzz", "CMakePresets.json")
    names = {path.relative_to(SOURCES) for path in SOURCES.rglob("*") if path.is_file()}
    assert there == {n for n in names if n.parts[0] not in tools and n.name[0] != "."}
    assert all((tree / name).read_bytes() == (SOURCES / name).read_bytes() for name in there)
    (app / "CMakeLists.txt").write_text(CMAKE)
    headers = (f"-DEDGE_LRA_ORT_HEADERS={HEADERS}", f"-DEDGE_LRA_JSON_HEADERS={HEADERS}")
    (app / "app.cpp").touch()
    done("cmake", "-S", ".", "-B", "out", *headers, cwd=app)


@pytest.mark.parametrize("split", [False, True])
def test_the_code_in_cpp_answers_as_python_does(bundle: Path, app: Path, split: bool) -> None:
    found = embed(EmbedRequest(bundle, "cpp", app, split))
    (app / "app.cpp").write_text(found.call.code)
    include = app / "third_party/edge-lra/include"
    flags = ("-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{include}")
    done("c++", *flags, "app.cpp", SHARED, f"-Wl,-rpath,{SHARED.parent}", "-o", "app", cwd=app)
    printed = done("./app", cwd=app, ONNXRUNTIME_LIB=str(library_of()))
    answer = re.fullmatch(r"logits: (\S+) \.\.\.\n", printed)
    inputs = {"input_ids": [[1, 2, 3]], "attention_mask": [[1, 1, 1]]}
    expected = Runner.load(bundle).run(inputs, adapter="mood")["logits"]
    assert answer and float(answer[1]) == pytest.approx(float(expected[0, 0]), rel=1e-4)
