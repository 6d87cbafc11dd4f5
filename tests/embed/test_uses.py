"""The code that is written compiles for every task, whole and split, not only for one bundle's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_lra.bundle import load_manifest
from edge_lra.embed.calls import call_of
from edge_lra.embed.platforms import PLATFORMS
from tests.embed.test_tree_js import MODULES, TYPESCRIPT
from tests.embed.trees import ROOT, done
from tests.runtime.android.toolchain import HERE, LIBRARIES, SOURCES, compile_java, java_files
from tests.runtime.js.hosts import PACKAGE

PIXELS = {"name": "pixels", "dtype": "float32", "shape": ["batch", 3, 8, 8], "example": None}
USES: dict[str, dict[str, Any]] = {
    "classify": {"task": "sequence-classification"},
    "embed": {"task": "sentence-embedding"},
    "tag": {"task": "token-classification"},
    "answer": {"task": "question-answering"},
    "generate": {"task": "text-generation"},
    "arrays": {"task": "custom", "inputs": [PIXELS]},
}


@pytest.fixture
def codes(made_factored: Path) -> dict[str, dict[str, str]]:
    """Return the code by platform, and by use."""
    manifest = load_manifest(made_factored)

    def code(platform: str, use: str, split: bool) -> str:
        folder = PLATFORMS[platform].bundles
        apart = f"{folder}/mood-adapters" if split else None
        entries = manifest | USES[use]
        return call_of(platform, entries, "mood.edge", f"{folder}/mood.edge", apart).code

    return {
        platform: {
            f"{use}{'_split' if split else ''}": code(platform, use, split)
            for use in USES
            for split in (False, True)
        }
        for platform in PLATFORMS
    }


def test_cpp_compiles(codes: dict[str, dict[str, str]], tmp_path: Path) -> None:
    for name, code in codes["cpp"].items():
        (tmp_path / f"{name}.cpp").write_text(code)
    flags = ("-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'runtime/cpp/include'}")
    done("c++", "-fsyntax-only", *flags, *sorted(tmp_path.glob("*.cpp")), cwd=tmp_path)


def test_java_compiles(codes: dict[str, dict[str, str]], tmp_path: Path) -> None:
    files = []
    for name, code in codes["android"].items():
        file = tmp_path / f"calls/{name}/EdgeModel.java"
        file.parent.mkdir(parents=True)
        file.write_text(f"package {name};\n{code}")
        files.append(file)
    stubs = compile_java(java_files(HERE / "stubs"), tmp_path / "stubs")
    given = (*LIBRARIES, stubs)
    library = compile_java(java_files(SOURCES), tmp_path / "library", *given)
    compile_java(files, tmp_path / "out", library, *given)


@pytest.mark.parametrize("platform", ["js", "react-native"])
def test_typescript_keeps_to_its_types(
    codes: dict[str, dict[str, str]], tmp_path: Path, platform: str
) -> None:
    (tmp_path / "node_modules").mkdir()
    for module in MODULES.iterdir():
        (tmp_path / "node_modules" / module.name).symlink_to(module)
    (tmp_path / "node_modules/edge-lra").symlink_to(PACKAGE)
    for name, code in codes[platform].items():
        (tmp_path / f"{name}.ts").write_text(code)
    config = TYPESCRIPT | {"include": ["*.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    done("node_modules/.bin/tsc", "-p", ".", cwd=tmp_path)
