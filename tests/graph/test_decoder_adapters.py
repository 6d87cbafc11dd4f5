"""Adapters of decoders, merged and behind an index, against PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from edge_lra.adapters import read_adapter
from edge_lra.adapters.factored import with_factors
from edge_lra.adapters.read import Adapter
from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.decoder import build_decoder
from edge_lra.packing import adapter_tensors, off_shape
from edge_lra.planning import adapter_slots
from tests.graph.decoders import (
    Stepper,
    float_logits,
    plan_for,
    random_model,
    token_ids,
    write_graph,
)

TOLERANCE = 1e-4
TARGETS = {
    "llama": ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "qwen2": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "gemma3": ["q_proj", "v_proj", "up_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


def train(base: Path, family: str, folder: Path, seed: int = 1, **options: Any) -> Any:
    """Write a random adapter and return PEFT's model with it."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 8, **options})
    model = peft.get_peft_model(random_model(family), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    return model.eval()


def read(base: Path, folder: Path) -> Adapter:
    checkpoint = Checkpoint(base)
    return read_adapter(folder, folder.name, checkpoint.tensors, (), checkpoint)


@pytest.fixture
def base(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    random_model(request.param).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("base", "family"), [(name, name) for name in TARGETS], indirect=["base"], ids=list(TARGETS)
)
def test_a_merged_adapter_gives_the_logits_of_peft(base: Path, family: str, tmp_path: Path) -> None:
    model = train(base, family, tmp_path / "lora", target_modules=TARGETS[family])
    built = build_decoder(plan_for(base, merged=read(base, tmp_path / "lora").updates))
    stepper = Stepper(write_graph(built, tmp_path / "graph"), built)
    ids = token_ids((1, 12))
    _, every = stepper.run(ids)
    assert np.abs(every - float_logits(model, ids)).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("base", "family"), [(name, name) for name in TARGETS], indirect=["base"], ids=list(TARGETS)
)
def test_each_row_of_a_batch_gets_its_own_adapter(base: Path, family: str, tmp_path: Path) -> None:
    ranks = {"one": 4, "two": 2}
    models = {
        name: train(
            base, family, tmp_path / name, seed, target_modules=TARGETS[family], r=ranks[name]
        )
        for seed, name in enumerate(ranks)
    }
    checkpoint = Checkpoint(base)
    adapters = [with_factors(read(base, tmp_path / name), checkpoint) for name in ranks]
    built = build_decoder(plan_for(base, slots=adapter_slots(adapters)))
    parts = [adapter_tensors(adapter, built.adapter_inputs) for adapter in adapters]
    stacks = {}
    for item in built.adapter_inputs:
        off = np.zeros(off_shape(item), np.float32)
        stacks[item.name] = stack([off, *(part[item.name] for part in parts)])
    stepper = Stepper(
        write_graph(built, tmp_path / "graph"),
        built,
        {**stacks, "adapter_index": np.array([2, 0, 1])},
    )
    ids = np.repeat(token_ids((1, 12)), 3, axis=0)
    _, every = stepper.run(ids)

    assert np.abs(every[2] - float_logits(models["one"], ids[2:])[0]).max() <= TOLERANCE
    assert np.abs(every[0] - float_logits(models["two"], ids[:1])[0]).max() <= TOLERANCE
    plain = float_logits(random_model(family), ids[1:2])[0]
    assert np.abs(every[1] - plain).max() <= TOLERANCE
    assert np.abs(every[0] - plain).max() > 100 * TOLERANCE


def stack(tensors: list[np.ndarray]) -> np.ndarray:
    """Return tensors of different ranks as one, filled up with zeros."""
    shape = np.max([tensor.shape for tensor in tensors], axis=0)
    whole = np.zeros((len(tensors), *shape), tensors[0].dtype)
    for place, tensor in enumerate(tensors):
        whole[(place, *(slice(size) for size in tensor.shape))] = tensor
    return whole


@pytest.mark.parametrize("base", ["llama-tied"], indirect=True)
def test_a_tied_head_parts_from_an_adapted_embedding_as_in_peft(base: Path, tmp_path: Path) -> None:
    model = train(base, "llama-tied", tmp_path / "lora", target_modules=["embed_tokens", "q_proj"])
    adapter = read(base, tmp_path / "lora")
    built = build_decoder(plan_for(base, merged=adapter.updates, parted=adapter.ties))
    stepper = Stepper(write_graph(built, tmp_path / "graph"), built)
    ids = token_ids((1, 12))
    _, every = stepper.run(ids)
    assert np.abs(every - float_logits(model, ids)).max() <= TOLERANCE


@pytest.mark.parametrize("base", ["llama-tied"], indirect=True)
def test_a_tied_head_is_adapted_alone_as_in_peft(base: Path, tmp_path: Path) -> None:
    model = train(base, "llama-tied", tmp_path / "lora", target_modules=["lm_head", "q_proj"])
    adapter = read(base, tmp_path / "lora")
    built = build_decoder(plan_for(base, merged=adapter.updates, parted=adapter.ties))
    stepper = Stepper(write_graph(built, tmp_path / "graph"), built)
    ids = token_ids((1, 12))
    _, every = stepper.run(ids)
    assert np.abs(every - float_logits(model, ids)).max() <= TOLERANCE


@pytest.mark.parametrize("base", ["llama"], indirect=True)
def test_half_precision_factors_are_read_as_floats(base: Path, tmp_path: Path) -> None:
    model = train(base, "llama", tmp_path / "lora", target_modules=["q_proj", "lm_head"])
    checkpoint = Checkpoint(base)
    adapter = with_factors(read(base, tmp_path / "lora"), checkpoint)
    plan = plan_for(base, slots=adapter_slots([adapter]), adapter_dtype="float16")
    built = build_decoder(plan)
    tensors = adapter_tensors(adapter, built.adapter_inputs)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float16")}
    feeds = {name: tensor[None] for name, tensor in tensors.items()}
    feeds["adapter_index"] = np.zeros(1, np.int64)
    stepper = Stepper(write_graph(built, tmp_path / "graph"), built, feeds)
    ids = token_ids((1, 12))
    _, every = stepper.run(ids)
    expected = float_logits(model, ids)
    assert np.abs(every - expected).max() <= 2e-3 * np.abs(expected).max()
