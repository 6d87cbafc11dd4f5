"""torchtune's native checkpoints, by its models/convert_weights.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_lra.adapters.saved import read_saved
from tests.adapters.formats.lora import (
    DOWN_PROJ,
    HEADS,
    KV_HEADS,
    SIZE,
    Factors,
    FakeBase,
    K,
    Q,
    assert_same,
    random_factors,
    refused,
    updates,
    write_peft,
)

NAMES = {
    Q: "layers.0.attn.q_proj",
    K: "layers.1.attn.k_proj",
    DOWN_PROJ: "layers.1.mlp.w2",
    "model.layers.0.self_attn.o_proj": "layers.0.attn.output_proj",
    "model.layers.0.mlp.gate_proj": "layers.0.mlp.w1",
    "model.layers.0.mlp.up_proj": "layers.0.mlp.w3",
    "lm_head": "output",
}


def paired(module: str, rows: Any) -> Any:
    """Return rows in Meta's order: a head's row i at 2i, its row i + d/2 at 2i + 1."""
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(module.rpartition(".")[2], 0)
    turned = rows.copy()
    for head in range(heads):
        first, half = head * SIZE, SIZE // 2
        for i in range(half):
            turned[first + 2 * i] = rows[first + i]
            turned[first + 2 * i + 1] = rows[first + half + i]
    return turned


def tensors(factors: Mapping[str, Factors], dora: bool = False) -> dict[str, Any]:
    found = {}
    for module, site in factors.items():
        name = NAMES[module]
        found[f"{name}.lora_a.weight"] = torch.tensor(site.down)
        found[f"{name}.lora_b.weight"] = torch.tensor(paired(module, site.up))
        if dora:
            rows = np.arange(1, len(site.up) + 1, dtype=np.float32)
            found[f"{name}.magnitude"] = torch.tensor(paired(module, rows))
    return found


def write(
    folder: Path, state: Mapping[str, Any], name: str = "adapter_model.pt", **config: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    settings = {"r": 3, "lora_alpha": 6.0, "target_modules": ["q_proj"], "peft_type": "LORA"}
    settings = {k: v for k, v in (settings | config).items() if v is not None}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    torch.save(dict(state), folder / name)
    return folder


def test_names_and_rows_become_those_of_hugging_face(tmp_path: Path) -> None:
    factors = random_factors(dict.fromkeys(NAMES, 3))
    folder = write(tmp_path / "a", tensors(factors))
    saved = read_saved(folder, FakeBase())
    assert saved.format == "torchtune"
    assert_same(saved, factors)
    assert_same(read_saved(folder / "adapter_model.pt", FakeBase()), factors)


def test_the_rows_of_qwen2_stay(tmp_path: Path) -> None:
    base, factors = FakeBase(), random_factors()
    base.config["model_type"] = "qwen2"
    state = tensors(factors)
    for module in (Q, K):
        state[f"{NAMES[module]}.lora_b.weight"] = torch.tensor(factors[module].up)
    assert_same(read_saved(write(tmp_path / "a", state), base), factors)


def test_magnitudes_are_reordered_with_their_rows(tmp_path: Path) -> None:
    factors = random_factors()
    saved = read_saved(write(tmp_path / "a", tensors(factors, dora=True)), FakeBase())
    assert saved.config["use_dora"] is True
    assert_same(saved, factors)
    for module, update in updates(saved):
        assert update.magnitude.tolist() == list(range(1, len(factors[module].up) + 1))


def test_of_the_native_file_and_its_copy_the_native_one_is_read(tmp_path: Path) -> None:
    factors, others = random_factors(), random_factors(seed=1)
    folder = write(write_peft(tmp_path / "a", others), tensors(factors))
    assert_same(read_saved(folder, FakeBase()), factors)


def test_a_pickle_in_pefts_format_is_read_as_such(tmp_path: Path) -> None:
    factors = random_factors()
    state = {}
    for module, site in factors.items():
        state[f"base_model.model.{module}.lora_A.weight"] = torch.tensor(site.down)
        state[f"base_model.model.{module}.lora_B.weight"] = torch.tensor(site.up)
    saved = read_saved(write(tmp_path / "a", state))
    assert saved.format == "PEFT"
    assert_same(saved, factors)


def test_what_cannot_be_known_is_refused(tmp_path: Path) -> None:
    base, factors = FakeBase(), random_factors()
    state = tensors(factors)
    refused(write(tmp_path / "none", state), "--model")
    refused(write(tmp_path / "alpha", state, lora_alpha=None), "no lora_alpha", base=base)
    refused(write(tmp_path / "zero", state, lora_alpha=0), "lora_alpha", "0", base=base)
    refused(write(tmp_path / "rank", state, r=4), "rank 3", "4", base=base)
    refused(write(tmp_path / "noname", state | {"x.weight": torch.ones(2)}), "x.weight", base=base)
    embedding = {"tok_embeddings.lora_a.weight": torch.ones(3, 3)}
    refused(write(tmp_path / "rows", state | embedding), "tok_embeddings", base=base)
    two = write(write(tmp_path / "two", state, "adapter_0.pt"), state, "adapter_1.pt")
    refused(two, "adapter_0.pt, adapter_1.pt", base=base)
    phi = FakeBase(config={"model_type": "phi3"})
    refused(write(tmp_path / "phi", state), "'phi3'", base=phi)
    odd = FakeBase()
    odd.config["num_key_value_heads"] = 5
    refused(write(tmp_path / "odd", state), K, "5 heads", base=odd)
    lacking = FakeBase(config={"model_type": "llama"})
    refused(write(tmp_path / "lacking", state), "num_attention_heads", base=lacking)


@pytest.mark.parametrize("size", [0, 10, 400, -30])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    folder = write(tmp_path / "a", tensors(random_factors()))
    file = folder / "adapter_model.pt"
    file.write_bytes(file.read_bytes()[:size])
    refused(folder, "adapter_model.pt", base=FakeBase())
