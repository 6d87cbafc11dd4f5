"""transformers' architectures without a recipe, held against transformers and PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import peft
import pytest
import torch
import transformers

from edge_lra.runner import Runner

Exported = Callable[..., Path]


def manifest_of(bundle: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((bundle / "manifest.json").read_text())
    return found


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, 3, 32, 32)).astype(np.float32)


def vit(models: Path, adapter: str | None = None) -> torch.nn.Module:
    model = transformers.ViTForImageClassification.from_pretrained(models / "vit").eval()
    return peft.PeftModel.from_pretrained(model, models / adapter).eval() if adapter else model


def vit_logits(model: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = model(pixel_values=torch.from_numpy(pixels)).logits.numpy()
    return found


@pytest.mark.parametrize("batch", [1, 3])
def test_a_float_vit_answers_as_transformers_does(
    models: Path, exported: Exported, batch: int
) -> None:
    pixels = images(batch)
    found = Runner.load(exported("vit", "none")).run({"pixel_values": pixels})["logits"]
    np.testing.assert_allclose(found, vit_logits(vit(models), pixels), atol=1e-4)


@pytest.mark.parametrize("mode", ["merge", "factored"])
def test_a_float_vit_with_a_lora_answers_as_peft_does(
    models: Path, exported: Exported, mode: str
) -> None:
    pixels = images(2)
    bundle = exported("vit", "none", "vit-lora", mode)
    expected = vit_logits(vit(models, "vit-lora"), pixels)
    found = Runner.load(bundle).run({"pixel_values": pixels})["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected - vit_logits(vit(models), pixels)).max() > 0.1


@pytest.mark.parametrize("mode", ["merge", "factored"])
def test_an_int8_vit_keeps_the_adapters_effect(exported: Exported, mode: str) -> None:
    report = manifest_of(exported("vit", "int8", "vit-lora", mode))["fidelity"]["reports"][0]
    assert report["metrics"]["relative_l2"] < 0.05
    assert 0.9 < report["metrics"]["adapter_survival"] < 1.1
    assert {gate["name"] for gate in report["gates"]} == {"kl_mean", "top1_agreement"}


def test_linears_are_int8_and_the_rest_is_named(exported: Exported) -> None:
    bundle = exported("vit", "int8", "vit-lora", "merge")
    graph = ir.load(bundle / "model.onnx").graph
    kinds = [node.op_type for node in graph]
    assert kinds.count("MatMulInteger") == 12
    assert kinds.count("MatMul") == 1
    assert kinds.count("DynamicQuantizeLinear") == 8  # q, k and v share one
    sites = manifest_of(bundle)["float_sites"]
    assert sites == ["classifier", "vit.embeddings.patch_embeddings.projection"]


def test_attentions_are_fused_and_idle_masks_are_gone(exported: Exported) -> None:
    kinds = [node.op_type for node in ir.load(exported("vit", "none") / "model.onnx").graph]
    assert kinds.count("MultiHeadAttention") == 2
    assert "Softmax" not in kinds and "Where" not in kinds


def test_a_vit_says_what_it_is(exported: Exported) -> None:
    manifest = manifest_of(exported("vit", "none"))
    assert (manifest["family"], manifest["task"]) == ("vit", "image-classification")
    assert manifest["labels"] == [f"LABEL_{i}" for i in range(5)]
    assert manifest["inputs"] == [
        {
            "name": "pixel_values",
            "dtype": "float32",
            "shape": ["batch", 3, 32, 32],
            "example": [1, 3, 32, 32],
        }
    ]


def test_q_and_v_share_a_down_factor(exported: Exported) -> None:
    manifest = manifest_of(exported("vit", "none", "vit-lora", "factored"))
    names = [item["name"] for item in manifest["adapter_inputs"]]
    assert sum(name.endswith("lora_down") for name in names) == 2
    assert sum(name.endswith("lora_up") for name in names) == 4
    assert "classifier.weight" in names and manifest["head"] == "adapter"
