"""What can be held of the Swift package without a Swift compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime.ios.swift import (
    CPP,
    PACKAGE,
    Interface,
    accesses,
    calls,
    nodes,
    parse,
    read_interface,
    text,
)

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.swift"))
SOURCES = sorted((PACKAGE / "Sources/EdgeLRA").glob("*.swift"))


@pytest.fixture(scope="module")
def interface() -> Interface:
    """Return what the C headers declare."""
    return read_interface()


def test_the_headers_are_read_whole(interface: Interface) -> None:
    header = (CPP / "include/edge_lra.h").read_text()
    assert len(interface.functions) == len(re.findall(r"^EDGE_LRA_API ", header, re.M)) + 1
    assert len(interface.structs) + len(interface.enums) == header.count("\ntypedef struct ") + (
        header.count("\ntypedef enum ")
    )
    assert interface.functions["edge_lra_run"] == 5
    assert "stamp_folder" in interface.structs["edge_lra_open_options"]


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_swift(name: str) -> None:
    wrong = [n for n in nodes(parse(PACKAGE / name)) if n.type == "ERROR" or n.is_missing]
    assert [(n.start_point.row + 1, text(n)[:60]) for n in wrong] == []


def test_c_functions_are_called_with_their_arguments(interface: Interface) -> None:
    found = {
        (name, count)
        for path in SOURCES
        for name, count in calls(parse(path))
        if name.startswith("edge_lra_") and name not in interface.structs
    }
    assert {(name, interface.functions.get(name)) for name, _ in found} == found
    assert {"edge_lra_open", "edge_lra_run", "edge_lra_generate"} <= {name for name, _ in found}


def test_c_types_constants_and_fields_exist(interface: Interface) -> None:
    known = interface.types | interface.constants | interface.functions.keys()
    fields = set()
    for path in SOURCES:
        tree = parse(path)
        names = {text(n) for n in nodes(tree) if n.type.endswith("identifier")}
        used = {n for n in names if re.fullmatch(r"(edge_lra|EDGE_LRA)_\w+", n)}
        assert used <= known, path.name
        fields |= set(accesses(tree, interface.structs))
    assert {(s, f) for s, f in fields if f not in interface.structs[s]} == set()
    assert {s for s, _ in fields} == interface.structs.keys()


def test_every_struct_of_options_tells_its_size(interface: Interface) -> None:
    sized = {name for name, fields in interface.structs.items() if "struct_size" in fields}
    fields = {pair for path in SOURCES for pair in accesses(parse(path), interface.structs)}
    assert {struct for struct, name in fields if name == "struct_size"} == sized


@pytest.mark.parametrize(
    ("enum", "file", "unused"),
    [
        ("edge_lra_code", "EdgeError.swift", {"EDGE_LRA_CODE_MAX"}),
        ("edge_lra_dtype", "Tensor.swift", {"EDGE_LRA_DTYPE_MAX"}),
        ("edge_lra_verify", "Native.swift", {"EDGE_LRA_VERIFY_MAX"}),
        ("edge_lra_adapter_choice", "Native.swift", {"EDGE_LRA_ADAPTER_MAX"}),
        (
            "edge_lra_stopped_by",
            "Results.swift",
            {"EDGE_LRA_MAX_TOKENS", "EDGE_LRA_STOPPED_BY_MAX"},
        ),
    ],
)
def test_every_constant_has_a_case(
    enum: str, file: str, unused: set[str], interface: Interface
) -> None:
    names = {text(n) for n in nodes(parse(PACKAGE / "Sources/EdgeLRA" / file))}
    assert interface.enums[enum] - names == unused


def test_the_package_is_whole_as_it_is_embedded(tmp_path: Path) -> None:
    package = shutil.copytree(PACKAGE, tmp_path / "EdgeLRA", ignore=shutil.ignore_patterns("cpp"))
    shutil.copytree(CPP / "include", package / "cpp/include")
    shutil.copytree(CPP / "src", package / "cpp/src")
    manifest = (package / "Package.swift").read_text()
    targets = re.findall(
        r'\.(target|testTarget)\(\s*name: "(\w+)"(?:[^)]*?path: "(\w+)")?', manifest
    )
    assert len(targets) == 4
    for kind, name, path in targets:
        folder = path or f"{'Tests' if kind == 'testTarget' else 'Sources'}/{name}"
        assert any((package / folder).iterdir()), name
    shim = package / "Sources/CEdgeLRA/onnxruntime.c"
    options = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    include = ["-I", str(shim.parent / "include")]
    subprocess.run(["cc", *options, *include, str(shim)], check=True)
