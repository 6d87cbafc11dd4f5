"""Language models whose adapter's file holds weights of the base, as PEFT saves embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_lra import Generator
from edge_lra.errors import EdgeError
from edge_lra.inputs import ExportRequest
from edge_lra.pipeline import export
from tests.graph.decoders import float_logits, random_model, token_ids

TOLERANCE = 1e-4


def train(family: str, folder: Path, *targets: str, **saving: Any) -> Any:
    """Write a random adapter as PEFT does on its own, and return PEFT's model with it."""
    random_model(family).save_pretrained(folder / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=list(targets))
    model = peft.get_peft_model(random_model(family), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder / "lora", **saving)
    return model.eval()


def logits(folder: Path, mode: str) -> np.ndarray:
    bundle = export(
        ExportRequest(
            folder / f"{mode}.edge",
            model=str(folder / "base"),
            adapters=[("lora", folder / "lora")],
            mode=mode,
            scheme="none",
            verify=False,
        )
    )
    found: np.ndarray = Generator.load(bundle, threads=1).cache().score(token_ids((12,)))
    return found.copy()


def expected(model: Any) -> np.ndarray:
    values: np.ndarray = float_logits(model, token_ids((1, 12)))[0]
    return values


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2"])
@pytest.mark.parametrize("targets", [["head"], ["table"], ["head", "table"]], ids="+".join)
def test_factors_count_beside_the_weight_that_peft_saves(
    tmp_path: Path, family: str, targets: list[str]
) -> None:
    gpt2 = family == "gpt2"
    names = {"head": "lm_head", "table": "wte" if gpt2 else "embed_tokens"}
    site = "c_attn" if gpt2 else "q_proj"
    model = train(family, tmp_path, site, *(names[target] for target in targets))
    assert np.abs(logits(tmp_path, "merge") - expected(model)).max() <= TOLERANCE


def test_factors_count_on_top_of_a_saved_weight_that_is_not_the_bases(tmp_path: Path) -> None:
    model = train("llama", tmp_path, "q_proj", "lm_head")
    file = tmp_path / "lora" / "adapter_model.safetensors"
    tensors = load_file(file)
    name = "base_model.model.lm_head.base_layer.weight"
    tensors[name] = tensors[name].bfloat16().float()
    save_file(tensors, file)
    with torch.no_grad():
        model.base_model.model.lm_head.base_layer.weight.copy_(tensors[name])
    assert np.abs(logits(tmp_path, "merge") - expected(model)).max() <= TOLERANCE


def test_a_saved_weight_that_is_the_bases_leaves_factors_inputs(tmp_path: Path) -> None:
    model = train("llama", tmp_path, "q_proj", "lm_head")
    assert np.abs(logits(tmp_path, "factored") - expected(model)).max() <= TOLERANCE


@pytest.mark.parametrize("family", ["llama-tied", "gpt2"])
def test_factors_of_a_tied_embedding_are_no_inputs_of_its_head(tmp_path: Path, family: str) -> None:
    table = "wte" if family == "gpt2" else "embed_tokens"
    train(family, tmp_path, table, save_embedding_layers=False)
    with pytest.raises(EdgeError, match=f"{table}.weight: found LORA there, .*use --merge"):
        logits(tmp_path, "factored")
