"""Runners agree: each broken bundle, adapter, input and golden file gets one answer from all."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from edge_lra.bundle import SEAL, UNSEALED, seal, sha256_file
from tests.runtime import alike
from tests.runtime.android.probe import Probe
from tests.runtime.broken_bundles import FILES, GRAPHS, MANIFESTS, Case, Manifest
from tests.runtime.broken_content import ADAPTERS, GOLDEN, INPUTS
from tests.runtime.cpp.bundles import tokens, write_tiny
from tests.runtime.js.hosts import Node

CASES = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("manifest", MANIFESTS),
        ("file", FILES),
        ("graph", GRAPHS),
        (
            "adapter",
            {n: replace(c, question=c.question or {"adapter": "two"}) for n, c in ADAPTERS.items()},
        ),
        ("input", INPUTS),
        ("golden", GOLDEN),
    )
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny factored bundle whose output is called logits, with one golden case."""

    def rename(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = model.graph.output[0].name = "logits"

    folder = write_tiny(tmp_path_factory.mktemp("alike") / "whole.edge", rename)
    manifest = load_manifest_of(folder)
    manifest["outputs"][0]["name"] = "logits"
    manifest["golden"] = {"count": 1, "adapters": ["one"], "kernel_spread": 0.0}
    seal_again(folder, manifest)
    found = alike.ask_cpp(alike.Question(folder, tokens()))
    assert isinstance(found, dict)
    logits = np.array(found["logits"], np.float32)
    given = {f"input.0.{name}": value for name, value in tokens().items()}
    save_file(
        given | {"output.0.logits": logits, "float.0.logits": logits.copy()},
        folder / "golden.safetensors",
    )
    seal_again(folder, manifest)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stamps of checks out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def asks(node: Node, probe: Probe) -> dict[str, alike.Answers]:
    """Return the runners whose errors have codes."""
    return {"cpp": alike.ask_cpp, "node": alike.ask_node(node), "java": alike.ask_java(probe)}


def load_manifest_of(folder: Path) -> Manifest:
    found: Manifest = json.loads((folder / "manifest.json").read_text())
    return found


def seal_again(folder: Path, manifest: Manifest, relist: bool = True) -> None:
    """Seal a manifest, its files listed as they are."""
    if relist:
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"]
        for path in files:
            entry = {"size": path.stat().st_size, "sha256": sha256_file(path)}
            manifest["files"][path.relative_to(folder).as_posix()] = entry
    (folder / "manifest.json").write_bytes(seal(manifest))


def broken(whole: Path, folder: Path, case: Case) -> Path:
    """Return a copy of the whole bundle after a change."""
    shutil.copytree(whole, folder)
    manifest = load_manifest_of(folder)
    case.change(folder, manifest)
    before, after = (manifest.pop(key, lambda data: data) for key in ("whole", "raw"))
    seal_again(folder, manifest, case.relist and isinstance(manifest["files"], dict))
    file = folder / "manifest.json"
    file.write_bytes(reseal(before(file.read_bytes())))
    data = after(file.read_bytes())
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
    return folder


def reseal(data: bytes) -> bytes:
    """Give bytes of a manifest the seal that they need."""
    start, end = len(SEAL), len(SEAL) + len(UNSEALED)
    unsealed = data[:start] + UNSEALED + data[end:]
    return data[:start] + hashlib.sha256(unsealed).hexdigest().encode() + data[end:]


@pytest.mark.parametrize("name", CASES)
def test_all_runners_answer_alike(
    name: str, asks: dict[str, alike.Answers], whole: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    question = alike.Question(
        broken(whole, tmp_path / "b.edge", case), **{"inputs": tokens(), **(case.question or {})}
    )
    answers = {runner: ask(question) for runner, ask in asks.items()}
    python = alike.ask_python(question)
    if case.code is None:
        assert isinstance(python, dict)
        assert answers == dict.fromkeys(asks, python)
    else:
        assert answers == dict.fromkeys(asks, case.code)
        assert python == alike.REFUSED
