from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from edge_lra.adapters import Adapter, read_adapter
from edge_lra.adapters.options import HONOURED, INERT, REFUSED
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError

HEAD = ("classifier.weight", "classifier.bias")


def trained(path: Path, **options: Any) -> tuple[Checkpoint, Path, Any]:
    """A random BERT base, a random adapter for it as PEFT saves it, and PEFT's own model."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    transformers.BertModel(config).save_pretrained(path / "base")
    model = transformers.BertForSequenceClassification.from_pretrained(path / "base")
    options = {"target_modules": ["query", "value"], "r": 4, "lora_alpha": 6} | options
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", **options))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    adapted.save_pretrained(path / "adapter")
    return Checkpoint(path / "base"), path / "adapter", adapted


def read(base: Checkpoint, path: Path) -> Adapter:
    return read_adapter(path, "a", base.tensors, HEAD)


def edit(path: Path, **options: Any) -> None:
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"query": 2}, "alpha_pattern": {"layer.1.attention.self.value": 3}},
        {"rank_pattern": {r"encoder\.layer\.0\..*value": 8}, "use_rslora": True},
    ],
)
def test_every_update_equals_pefts(tmp_path: Path, options: dict[str, Any]) -> None:
    base, path, oracle = trained(tmp_path, **options)
    adapter = read(base, path)
    assert len(adapter.sites) == 4
    for tensor, site in adapter.sites.items():
        module = oracle.get_submodule(f"base_model.model.bert.{tensor.removesuffix('.weight')}")
        expected = module.get_delta_weight("default").detach().numpy()
        found = site.merge_rows(np.zeros(expected.shape), 0)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_head_saved_under_plain_keys_is_read(tmp_path: Path) -> None:
    base, path, oracle = trained(tmp_path)
    head = oracle.base_model.model.classifier.modules_to_save["default"].weight.detach().numpy()
    np.testing.assert_array_equal(read(base, path).replacements["classifier.weight"], head)


def test_every_field_of_lora_config_is_listed_once() -> None:
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    listed = [*HONOURED, *INERT, *REFUSED]
    assert fields <= set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(
    "option",
    [
        {"use_dora": True},
        {"lora_bias": True},
        {"bias": "all"},
        {"peft_type": "LOHA"},
        {"new_one": 3},
        {"init_lora_weights": "pissa"},
    ],
)
def test_an_option_not_honoured_is_refused_by_name(tmp_path: Path, option: dict[str, Any]) -> None:
    base, path, _ = trained(tmp_path)
    edit(path, **option)
    with pytest.raises(EdgeError, match=next(iter(option))):
        read(base, path)


def test_another_bases_adapter_names_the_site(tmp_path: Path) -> None:
    base, path, _ = trained(tmp_path)
    tensors = {name: dataclasses.replace(info, shape=(8, 8)) for name, info in base.tensors.items()}
    with pytest.raises(EdgeError, match=r"query: adapter is .*another base"):
        read_adapter(path, "a", tensors, HEAD)


def test_a_base_without_the_sites_is_an_error(tmp_path: Path) -> None:
    base, path, _ = trained(tmp_path)
    with pytest.raises(EdgeError, match="no such weight"):
        read_adapter(path, "a", {"other.weight": next(iter(base.tensors.values()))}, HEAD)


def test_a_head_nobody_reads_is_an_error(tmp_path: Path) -> None:
    base, path, _ = trained(tmp_path)
    with pytest.raises(EdgeError, match=r"classifier\.\w+: found no place"):
        read_adapter(path, "a", base.tensors, ())
