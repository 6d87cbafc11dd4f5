from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel

from edge_lra.adapters.algebra import extract as module
from edge_lra.adapters.algebra.extract import Choice, extract, settings
from edge_lra.adapters.write import write_peft
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError

BERT = transformers.BertConfig(
    vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=24, max_position_embeddings=16,
)  # fmt: skip
GPT2 = transformers.GPT2Config(
    vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0
)


def change(model: Any, parts: tuple[str, ...], rank: int = 2) -> None:
    """Add a change of low rank to the named weights, and any change to the named vectors."""
    torch.manual_seed(1)
    for name, tensor in model.state_dict().items():
        if any(part in name for part in parts):
            if tensor.dim() == 2:
                low = torch.randn(len(tensor), rank) @ torch.randn(rank, tensor.shape[1])
                tensor.add_(0.1 * low)
            else:
                tensor.add_(0.1 * torch.randn(tensor.shape))


def saved(model: Any, path: Path) -> Checkpoint:
    model.save_pretrained(path)
    return Checkpoint(path)


def loaded(base: Any, result: Any, config: dict[str, Any], folder: Path) -> Any:
    folder.mkdir()
    write_peft(folder, config, result.sites, result.whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out")  # PEFT goes by each module's type
        return PeftModel.from_pretrained(base, folder).eval()


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(torch.arange(12).reshape(2, 6)).logits)


@pytest.mark.parametrize("held", [True, False])
def test_base_and_extracted_adapter_are_the_tuned_model(
    tmp_path: Path, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", module.HELD_BYTES if held else 0)
    monkeypatch.setattr(module, "CHUNK_BYTES", 512)
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(BERT)
    base = saved(model.bert, tmp_path / "base")
    changed = ("query.weight", "query.bias", "output.dense.weight", "LayerNorm.weight")
    change(model, (*changed, "position_embeddings", "pooler.dense.bias"))
    tuned = saved(model, tmp_path / "tuned")
    result = extract(base, tuned, Choice(4))
    assert set(result.sites) == {
        name.removesuffix(".weight")
        for name in tuned.tensors
        if name.endswith((".query.weight", ".output.dense.weight"))
    }
    config, result = settings(result, "base", tuned)
    assert config["task_type"] == "SEQ_CLS"
    fresh = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "base")
    found = loaded(fresh, result, config, tmp_path / "adapter")
    np.testing.assert_allclose(logits(found), logits(model.eval()), atol=1e-5)


def test_weights_stored_the_other_way_round_are_extracted_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config.from_dict(GPT2.to_dict() | {"tie_word_embeddings": False})
    model = transformers.GPT2LMHeadModel(config)
    base = saved(model, tmp_path / "base")
    change(model, ("c_attn", "c_proj.weight", "lm_head"))
    result = extract(base, saved(model, tmp_path / "tuned"), Choice(2))
    assert result.transposed and all(site.down.shape[0] == 2 for site in result.sites.values())
    assert "lm_head" in result.sites
    config, result = settings(result, "base", Checkpoint(tmp_path / "tuned"))
    fresh = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    found = loaded(fresh, result, config, tmp_path / "adapter")
    np.testing.assert_allclose(logits(found), logits(model.eval()), atol=1e-4)


def test_an_energy_chooses_the_rank_of_each_site(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.BertModel(BERT)
    base = saved(model, tmp_path / "base")
    change(model, ("query.weight",), rank=2)
    change(model, ("value.weight",), rank=5)
    result = extract(base, saved(model, tmp_path / "tuned"), Choice(16, energy=0.9999))
    ranks = {entry.module.rpartition(".")[2]: entry.rank for entry in result.report}
    assert ranks == {"query": 2, "value": 5}
    assert all(entry.kept_energy >= 0.9999 for entry in result.report)
    assert all(0 <= entry.error <= 0.01 for entry in result.report)


def test_equal_or_different_models_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = saved(transformers.BertModel(BERT), tmp_path / "base")
    with pytest.raises(EdgeError, match="no linear weight that differs"):
        extract(base, base, Choice(2))
    other = saved(transformers.GPT2LMHeadModel(GPT2), tmp_path / "other")
    with pytest.raises(EdgeError, match="are they the same model"):
        extract(base, other, Choice(2))
    wide = transformers.BertConfig(**json.loads(BERT.to_json_string()) | {"vocab_size": 30})
    with pytest.raises(EdgeError, match=r"word_embeddings\.weight: found shape"):
        extract(base, saved(transformers.BertModel(wide), tmp_path / "wide"), Choice(2))
