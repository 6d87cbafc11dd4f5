"""Exports of language models carry a proof: metrics, gates, golden cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError, GateError
from edge_lra.extend import AddRequest, add_adapter
from edge_lra.golden import check_golden, read_golden
from edge_lra.language import proof
from edge_lra.language.memory import Way
from edge_lra.language.truncated import open_first_layers
from edge_lra.pipeline import ExportRequest, export
from tests.graph.decoders import float_logits, random_model
from tests.language.models import LOOSE, TEXT, write_adapter, write_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text(TEXT)
    return file


def request(base: Path, data: Path, **options: Any) -> ExportRequest:
    out = options.pop("out", base.parent / "x.edge")
    choice = {"scheme": "none", "data": data, **options}
    return ExportRequest(out, str(base), **choice)


def report(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_manifest(bundle)["fidelity"]["reports"][-1]
    return found


@pytest.mark.parametrize("mode", ["merge", "factored"])
def test_a_float_bundle_is_the_float_model(base: Path, data: Path, mode: str) -> None:
    adapter = write_adapter(base.parent / "lora")
    found = report(export(request(base, data, adapters=[(None, adapter)], mode=mode)))
    metrics = found["metrics"]
    assert metrics["perplexity_ratio"] == pytest.approx(1, abs=1e-5)
    assert metrics["kl_max"] < 1e-8 and metrics["prefill_kl_mean"] < 1e-8
    assert metrics["same_top"] == 1
    assert metrics["max_abs_error"] < 1e-4 and metrics["prefill_max_abs_error"] < 1e-4
    assert metrics["adapter_survival"] == pytest.approx(1, abs=1e-4)
    assert metrics["tokens"] == 8 * 24
    assert (found["oracle"], found["texts"], found["truncated"]) == ("whole", 8, 0)


def test_perplexity_is_that_of_transformers_own_loss(base: Path, data: Path) -> None:
    metrics = report(export(request(base, data)))["metrics"]
    model = random_model("llama")
    ids = {f"w{place}": place + 4 for place in range(90)}
    losses = []
    for line in TEXT.splitlines():
        row = torch.tensor([[2, *(ids[word] for word in line.split())]])  # led by what ends a text
        with torch.no_grad():
            losses.append(float(model(input_ids=row, labels=row).loss))
    assert metrics["perplexity_float"] == pytest.approx(float(np.exp(np.mean(losses))), rel=1e-5)


def test_no_more_tokens_are_scored_than_asked(base: Path, data: Path) -> None:
    found = report(export(request(base, data, verify_tokens=60)))
    assert found["metrics"]["tokens"] == 60
    assert (found["texts"], found["truncated"]) == (3, 1)


def test_a_failed_gate_names_the_layer_that_is_wrong(
    base: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(base.parent / "lora", std=0.5, layers_to_transform=[1])
    monkeypatch.setattr(proof, "readable", lambda adapter, *_: write_zeros(adapter.path))
    with pytest.raises(GateError, match=r"kl_mean .*grows most in layer 1 .*layer 0") as caught:
        export(request(base, data, adapters=[(None, adapter)]))
    assert "(limit 0.05)" in str(caught.value)
    assert not (base.parent / "x.edge").exists()


def write_zeros(path: Path) -> Path:
    from safetensors.torch import load_file, save_file

    file = path / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({n: v * 1e-3 if "lora_B" in n else v for n, v in tensors.items()}, file)
    return path


def test_an_unknown_gate_is_refused(base: Path, data: Path) -> None:
    with pytest.raises(EdgeError, match=r"gates: found top1_agreement, expected one of kl_mean"):
        export(request(base, data, gates={"top1_agreement": 0.5}))


def test_an_adapter_without_effect_is_refused(base: Path, data: Path) -> None:
    adapter = write_adapter(base.parent / "lora", std=0.0)
    with pytest.raises(EdgeError, match="no effect"):
        export(request(base, data, adapters=[("idle", adapter)]))


@pytest.mark.parametrize("way", [Way(False), Way(False, 1)])
def test_parts_of_the_float_model_prove_the_same(
    base: Path, data: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(base.parent / "lora")
    monkeypatch.setattr(proof, "choose_way", lambda tensors, folder: way)
    for mode in ("merge", "factored"):
        bundle = export(request(base, data, adapters=[(None, adapter)], mode=mode))
        found = report(bundle)
        assert found["oracle"] == ("first 1 layers" if way.layers else "layer by layer")
        assert found["metrics"]["max_abs_error"] < 1e-4
        assert found["metrics"]["adapter_survival"] == pytest.approx(1, abs=1e-4)
        assert load_manifest(bundle)["golden"]["count"] == (0 if way.layers else 4)


def test_an_older_graph_is_told_where_only_its_first_layers_fit(base: Path, data: Path) -> None:
    bundle = export(request(base, data, verify=False))
    graph = bundle / "model.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"last_tokens", b"Slice_12345"))
    with pytest.raises(EdgeError, match=r"model\.onnx: found no value last_tokens, .* export it"):
        open_first_layers(bundle, 1)
    assert not (bundle / "probe.onnx").exists()


def test_a_model_without_a_tokenizer_is_proven_on_random_ids(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "gpt2", tokenizer=False)
    found = report(export(ExportRequest(tmp_path / "x.edge", str(base), scheme="none")))
    assert found["source"] == "random ids (no tokenizer)"
    assert found["metrics"]["tokens"] == 512


def test_another_adapter_is_proven_when_it_is_added(base: Path, data: Path) -> None:
    one, two = (write_adapter(base.parent / name, seed=seed) for seed, name in enumerate("ab"))
    bundle = export(request(base, data, adapters=[("one", one)], mode="factored"))
    add_adapter(AddRequest(bundle, two, "two", data=data, verify_tokens=100))
    manifest = load_manifest(bundle)
    assert [r["adapter"] for r in manifest["fidelity"]["reports"]] == ["one", "two"]
    assert report(bundle)["metrics"]["tokens"] == 100
    assert manifest["golden"]["adapters"] == ["one"] * 4 + ["two"] * 4
    assert check_golden(bundle, manifest)["cases"] == 8


# ---- golden cases ---------------------------------------------------------------------------


@pytest.fixture
def bundle(base: Path, data: Path) -> Path:
    return export(request(base, data, scheme="int8-weight-only", gates=LOOSE))


def test_golden_cases_are_prompts_and_what_greedily_follows(bundle: Path) -> None:
    cases = read_golden(bundle, load_manifest(bundle))
    assert [case.inputs["input_ids"].shape[1] for case in cases] == [25, 8, 17, 16]
    model = random_model("llama")
    for case in cases:
        assert case.greedy is not None
        assert case.outputs["logits"].shape == (1, 1, 96)
        exact = float_logits(model, case.inputs["input_ids"])[:, -1:]
        assert np.abs(case.exact["logits"] - exact).max() < 1e-4
        assert case.outputs["logits"].argmax() == case.greedy.tokens[0]
        assert len(case.greedy.tokens) == len(case.greedy.margins) == 16
        assert (case.greedy.margins >= 0).all()


def test_a_golden_check_finds_no_difference_here(bundle: Path) -> None:
    found = check_golden(bundle, load_manifest(bundle))
    assert found["cases"] == 4
    assert found["max_abs_error"] == 0


def test_other_tokens_than_at_export_are_found(bundle: Path) -> None:
    from safetensors.numpy import load_file, save_file

    file = bundle / "golden.safetensors"
    tensors = load_file(file)
    tensors["greedy.2.tokens"][-1] = (tensors["greedy.2.tokens"][-1] + 1) % 96
    tensors["greedy.2.margins"][-1] = 1e3
    save_file(tensors, file)
    with pytest.raises(GateError, match="other tokens than at export at 1 of"):
        check_golden(bundle, json.loads((bundle / "manifest.json").read_text()))
