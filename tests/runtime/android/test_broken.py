"""Broken bundles and adapters: the Java runner answers with a code and one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from edge_lra.bundle import load_manifest, seal, sha256_file
from edge_lra.golden import read_golden
from tests.runtime.android.probe import Probe

Change = Callable[[Path, dict[str, Any]], None]


def changed(source: Path, out: Path, change: Change, sealed: bool = True) -> Path:
    """Copy a bundle, change it and its manifest, and seal that again with the files' hashes."""
    shutil.copytree(source, out)
    manifest = load_manifest(out)
    change(out, manifest)
    if sealed:
        for name, entry in manifest["files"].items():
            if (out / name).is_file():
                entry |= {"size": (out / name).stat().st_size, "sha256": sha256_file(out / name)}
        (out / "manifest.json").write_bytes(seal(manifest))
    return out


def load(probe: Probe, bundle: Path, **options: Any) -> tuple[str | None, str]:
    answer = probe.ask("load", bundle=str(bundle), **options)
    return answer.get("code"), answer.get("message", "")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def external(out: Path, location: str) -> None:
    """Let one tensor of the graph lie elsewhere."""
    model = onnx.load(out / "model.onnx", load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    next(e for e in tensor.external_data if e.key == "location").value = location
    (out / "model.onnx").write_bytes(model.SerializeToString())


def rename_input(out: Path, manifest: dict[str, Any]) -> None:
    manifest["inputs"][0]["name"] = "ids"


DAMAGE: dict[str, tuple[Change, bool, str, str]] = {
    "a flipped bit in the weights": (
        lambda out, _: flip(out / "model.onnx.data"),
        False,
        "DAMAGED",
        "model.onnx.data: is damaged",
    ),
    "a flipped bit in the graph": (
        lambda out, _: flip(out / "model.onnx"),
        False,
        "DAMAGED",
        "model.onnx: is damaged",
    ),
    "a cut file": (
        lambda out, _: os.truncate(out / "model.onnx.data", 100),
        False,
        "DAMAGED",
        "model.onnx.data: found it missing or cut",
    ),
    "a missing file": (
        lambda out, _: (out / "golden.safetensors").unlink(),
        False,
        "NOT_FOUND",
        "golden.safetensors: found it missing or cut",
    ),
    "no manifest": (
        lambda out, _: (out / "manifest.json").unlink(),
        False,
        "NOT_FOUND",
        "found no manifest.json, expected a bundle",
    ),
    "an edited manifest": (
        lambda out, m: (out / "manifest.json").write_bytes(
            (out / "manifest.json").read_bytes().replace(b'"sentiment"', b'"sentimenu"')
        ),
        False,
        "DAMAGED",
        "manifest.json: is damaged",
    ),
    "a newer format": (
        lambda _, m: m.update(format_version=2),
        True,
        "UNSUPPORTED",
        "found bundle format 2, expected 1",
    ),
    "a path out of the bundle": (
        lambda _, m: m["files"].update({"../x": {"size": 0, "sha256": ""}}),
        True,
        "DAMAGED",
        "expected files inside the bundle",
    ),
    "a newer onnxruntime wanted": (
        lambda _, m: m.update(min_onnxruntime="99.1.0"),
        True,
        "UNSUPPORTED",
        "expected 99.1.0 or newer",
    ),
    "weights out of the bundle": (
        lambda out, _: external(out, "../../etc/passwd"),
        True,
        "DAMAGED",
        'found weights in "../../etc/passwd"',
    ),
    "a graph that is none": (
        lambda out, _: (out / "model.onnx").write_bytes(b"\x3a\x7fnonsense"),
        True,
        "DAMAGED",
        "expected an ONNX model",
    ),
    "an empty graph": (
        lambda out, _: (out / "model.onnx").write_bytes(b""),
        True,
        "RUNTIME",
        "onnxruntime cannot open it",
    ),
    "another input in the manifest": (
        rename_input,
        True,
        "DAMAGED",
        "graph and manifest disagree on inputs: ids, input_ids",
    ),
    "an output that the graph lacks": (
        lambda _, m: m["outputs"].append(m["outputs"][0] | {"name": "more"}),
        True,
        "DAMAGED",
        "graph and manifest disagree on outputs: more",
    ),
    "an unknown default adapter": (
        lambda _, m: m.update(default_adapter="nobody"),
        True,
        "INVALID_ARGUMENT",
        'adapter: found "nobody", expected one of: sentiment, mirrored',
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_broken_bundle_is_refused(
    name: str, probe: Probe, factored: Path, tmp_path: Path
) -> None:
    change, sealed, code, message = DAMAGE[name]
    found = load(probe, changed(factored, tmp_path / "x.edge", change, sealed))
    assert found[0] == code and message in found[1], found
    assert "\n" not in found[1]


def test_a_link_out_of_the_bundle_is_refused(probe: Probe, factored: Path, tmp_path: Path) -> None:
    def link(out: Path, _: dict[str, Any]) -> None:
        (out / "model.onnx.data").unlink()
        (out / "model.onnx.data").symlink_to(factored / "model.onnx.data")

    bundle = changed(factored, tmp_path / "x.edge", link, sealed=False)
    code, message = load(probe, bundle)
    assert code == "DAMAGED" and "found a link out of the bundle" in message


def test_nothing_is_hashed_where_the_app_vouches(
    probe: Probe, factored: Path, tmp_path: Path
) -> None:
    bundle = changed(
        factored, tmp_path / "x.edge", lambda out, _: flip(out / "golden.safetensors"), False
    )
    assert load(probe, bundle, verify="ALWAYS")[0] == "DAMAGED"
    assert load(probe, bundle, verify="NEVER") == (None, "")


def adapter_of(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Change:
    def write(out: Path, _: dict[str, Any]) -> None:
        file = out / "adapters/sentiment.safetensors"
        save_file(change(load_file(file)), file)

    return write


def cut_ranks(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = next(iter(sorted(tensors)))
    return tensors | {name: np.ascontiguousarray(tensors[name][..., :-1])}


ADAPTERS: dict[str, tuple[Change, str, str]] = {
    "another base": (
        lambda _, m: m["adapters"]["sentiment"].update(base="0" * 64),
        "FOREIGN_ADAPTER",
        "adapter sentiment: is foreign: found base 000000000000",
    ),
    "a tensor without an input": (
        adapter_of(lambda tensors: tensors | {"more": np.zeros(3, np.float32)}),
        "DAMAGED",
        'the graph has no input "more"',
    ),
    "another type": (
        adapter_of(lambda tensors: {n: t.astype(np.float64) for n, t in tensors.items()}),
        "DAMAGED",
        "found float64[",
    ),
    "no head": (
        adapter_of(lambda tensors: {n: t for n, t in tensors.items() if n != "classifier.bias"}),
        "DAMAGED",
        "found no classifier.bias, expected shape [labels]",
    ),
    "another shape": (adapter_of(cut_ranks), "DAMAGED", "export it for this base"),
    "no safetensors": (
        lambda out, _: (out / "adapters/sentiment.safetensors").write_bytes(b"\xff" * 100),
        "DAMAGED",
        "found a header of",
    ),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_broken_adapter_is_refused_and_the_others_work(
    name: str, probe: Probe, factored: Path, tmp_path: Path
) -> None:
    change, code, message = ADAPTERS[name]
    runner = probe.load(changed(factored, tmp_path / "x.edge", change))
    inputs = read_golden(factored, load_manifest(factored))[0].inputs
    found = probe.run(runner, inputs, adapter="sentiment")
    assert found["code"] == code and message in found["message"], found
    assert probe.run(runner, inputs, adapter="mirrored")["logits"].shape == (
        len(inputs["input_ids"]),
        2,
    )


def test_an_adapter_that_changes_behind_the_runner_is_refused(
    probe: Probe, factored: Path, tmp_path: Path
) -> None:
    bundle = changed(factored, tmp_path / "x.edge", lambda out, _: None)
    runner = probe.load(bundle)
    flip(bundle / "adapters/sentiment.safetensors")
    inputs = read_golden(factored, load_manifest(factored))[0].inputs
    found = probe.run(runner, inputs, adapter="sentiment")
    assert found["code"] == "DAMAGED" and "changed since export" in found["message"]


def test_logits_that_are_no_numbers_end_a_generation(
    probe: Probe, tiny_decoder_factored: Path, tmp_path: Path
) -> None:
    def poison(out: Path, _: dict[str, Any]) -> None:
        file = out / "adapters/one.safetensors"
        save_file({n: np.full_like(t, np.nan) for n, t in load_file(file).items()}, file)

    runner = probe.load(changed(tiny_decoder_factored, tmp_path / "x.edge", poison))
    found = probe.ask("generate", runner=runner, prompt=[1, 2], max_tokens=4, adapter="one")
    assert found["code"] == "RUNTIME" and "logits that are not numbers" in found["message"]


def test_golden_answers_that_are_far_off_fail_the_gate(
    probe: Probe, merged: Path, tmp_path: Path
) -> None:
    def move(out: Path, _: dict[str, Any]) -> None:
        file = out / "golden.safetensors"
        tensors = load_file(file)
        save_file({n: t if n.startswith("input") else t + 9 for n, t in tensors.items()}, file)

    runner = probe.load(changed(merged, tmp_path / "x.edge", move))
    found = probe.ask("golden", runner=runner)
    assert found["code"] == "GATE_FAILED" and "do not ship it on this machine" in found["message"]
