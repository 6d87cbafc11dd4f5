"""The float oracle, whole and a layer at a time, against transformers and PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from edge_lra.errors import EdgeError
from edge_lra.language.layered import LayeredModel
from edge_lra.language.oracle import FloatModel, WholeModel
from tests.graph.decoders import FAMILIES, float_logits, random_model, token_ids

ROWS = [token_ids((length,), length) for length in (9, 20, 3)]
TOLERANCE = 1e-5


def logits(model: FloatModel, adapted: bool = True) -> list[np.ndarray]:
    hidden = model.hidden(ROWS, adapted, lambda done, total: None)
    return [model.logits(states, adapted) for states in hidden]


def assert_equal(found: list[np.ndarray], model: Any) -> None:
    for row, values in zip(ROWS, found, strict=True):
        assert np.abs(values - float_logits(model, row[None])[0]).max() <= TOLERANCE


@pytest.mark.parametrize("name", list(FAMILIES))
def test_both_ways_give_the_logits_of_transformers(tmp_path: Path, name: str) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path / "base", max_shard_size="40KB")
    layered = LayeredModel(tmp_path / "base", [])
    assert (layered.way, WholeModel.way) == ("layer by layer", "whole")
    for oracle in (WholeModel(tmp_path / "base", []), layered):
        assert_equal(logits(oracle), model)


ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "dora": ("llama-tied", {"target_modules": ["q_proj", "up_proj"], "use_dora": True}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "k_proj"]}),
    "head": ("llama", {"target_modules": ["lm_head", "v_proj"]}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "whole-head": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
}


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_both_ways_give_the_logits_of_peft(tmp_path: Path, name: str) -> None:
    family, options = ADAPTERS[name]
    random_model(family).save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **options)
    model = peft.get_peft_model(random_model(family), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" not in key:
                parameter.normal_(std=0.2)
    model.save_pretrained(tmp_path / "lora")
    model.eval()
    for kind in (WholeModel, LayeredModel):
        assert_equal(logits(kind(tmp_path / "base", [(tmp_path / "lora", 1.0)])), model)


def test_adapters_are_weighted_summed_and_switched_off(tmp_path: Path) -> None:
    base = random_model("llama")
    base.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    model = peft.get_peft_model(random_model("llama"), config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.normal_(std=0.2)
    model.save_pretrained(tmp_path / "lora")
    adapters = [(tmp_path / "lora", 1.0), (tmp_path / "lora", -1.0)]
    oracle = LayeredModel(tmp_path / "base", adapters)
    assert_equal(logits(oracle), base)
    single = LayeredModel(tmp_path / "base", [(tmp_path / "lora", 1.0)])
    assert_equal(logits(single, adapted=False), base)
    assert_equal(logits(single, adapted=True), model.eval())


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_layer_outputs_are_those_of_the_layers(tmp_path: Path, name: str) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        ids = torch.from_numpy(ROWS[1][None])
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    for oracle in (WholeModel(tmp_path / "base", []), LayeredModel(tmp_path / "base", [])):
        found = oracle.layer_outputs(ROWS[1])
        assert len(found) == model.config.num_hidden_layers
        for expected, values in zip(states[1:-1], found, strict=False):  # the last is normed
            assert np.abs(expected.numpy() - values).max() <= TOLERANCE


def test_only_the_first_layers_are_run_where_no_more_are_wanted(tmp_path: Path) -> None:
    model = random_model("gemma3")
    model.save_pretrained(tmp_path / "base")
    oracle = LayeredModel(tmp_path / "base", [], layers=3)
    model.model.layers = model.model.layers[:3]
    model.config.num_hidden_layers = 3
    assert oracle.way == "first 3 layers"
    assert_equal(logits(oracle), model)


def test_a_layer_leaves_no_weights_behind(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path / "base")
    oracle = LayeredModel(tmp_path / "base", [])
    logits(oracle)
    held = [
        parameter.untyped_storage().nbytes()
        for name, parameter in oracle._model.named_parameters()
        if parameter.dim() > 1
    ]
    assert held and max(held) == 4


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    random_model("llama").save_pretrained(tmp_path / "base")
    file = tmp_path / "base/model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(EdgeError, match=r"found no tensor model\.layers\.1\.mlp\.up_proj\.weight"):
        LayeredModel(tmp_path / "base", [])
